"""Measures how far a window of rows is from the reference. It imports no contract, so the sidecar can use it."""
