"""The drift sidecar: watches the rows that the ranker has scored, in an environment of its own."""
