"""The mirror of the ledger in MLflow, for people who know MLflow."""
