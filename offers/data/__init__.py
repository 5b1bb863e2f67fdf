"""Rows from a source, read, validated and typed."""

import os

# pandera sets this variable where it is absent, and Arrow then drops the zone of every time that a database returns.
os.environ["PYARROW_IGNORE_TIMEZONE"] = ""
