"""The model that serves: the encoder and the calibrated trees. Safe for the sidecar: imports no contract."""
