"""Measures, judges and reports a period's decisions and outcomes."""
