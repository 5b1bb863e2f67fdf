"""The ranker: ranked offers for customers."""
