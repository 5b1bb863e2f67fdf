"""How far a window of rows is from the reference. Safe for the sidecar: imports no contract."""
