"""Rows from a source, read, validated and typed."""
