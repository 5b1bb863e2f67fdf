"""What answers a bank's applications: the predictor and the ranker, as KServe models."""
