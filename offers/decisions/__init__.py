"""Decisions about customers, and their outcomes."""
