"""Simulated worlds whose true probabilities are known."""
