"""The recommender: products for a user of a market, by id."""
