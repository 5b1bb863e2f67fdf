"""A market's models: towers that find candidates, the ranker that scores them, and the bundle that holds both."""
