"""Which offers a customer may get, and in which order."""
