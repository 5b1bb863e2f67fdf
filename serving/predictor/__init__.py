"""The predictor: calibrated propensities of a bundle."""
