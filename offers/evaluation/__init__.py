"""Measures how good a model is, and judges whether that is good enough."""
