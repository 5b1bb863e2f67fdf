"""A period's decisions and outcomes: measured, judged, reported."""
