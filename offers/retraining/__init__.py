"""The decision to train again, and its journal."""
