"""Platt scaling, fitted on margins of rows that the scoring fit had not seen."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from offers.contract.sections import Calibration
from offers.model.propensity import Calibrator


def calibration_edges(n_rows: int, refit_every: int, rows: int) -> list[int]:
    """List the first rows of the blocks before `n_rows` on whose margins the calibrator is fitted."""
    count = -(-rows // refit_every)
    return [n_rows - refit_every * k for k in range(count, 0, -1) if n_rows - refit_every * k >= refit_every]


def fit_calibrator(margin: np.ndarray, labels: np.ndarray, prior: float) -> Calibrator:
    """Fit the calibrator on margins of rows that the model had not seen.

    A penalty pulls the calibrator towards leaving margins unchanged, with the weight of `prior` rows whose labels agree
    with them. It is the Fisher information of these rows: `prior` times the mean of p (1 - p) (margin, 1) (margin, 1)'.
    """
    margin, labels = margin.astype(np.float64), labels.astype(np.float64)
    if not len(labels):
        return Calibrator()
    inputs, chance = np.column_stack([margin, np.ones_like(margin)]), expit(margin)
    precision = prior / len(labels) * (inputs * (chance * (1 - chance))[:, None]).T @ inputs

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        slope, intercept = weights
        log_odds = slope * margin + intercept
        change = np.array([slope - 1, intercept])
        value = np.logaddexp(0, log_odds).sum() - labels @ log_odds + change @ precision @ change / 2
        return value, inputs.T @ (expit(log_odds) - labels) + precision @ change

    optimum = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B")
    # Rounding keeps the optimiser's last bits out of the bundle's name.
    return Calibrator(round(float(optimum.x[0]), 6), round(float(optimum.x[1]), 6))


def calibrate(margin: np.ndarray, labels: np.ndarray, settings: Calibration) -> Calibrator:
    """Fit the calibrator on the newest `settings.rows` rows that have a margin."""
    newest = np.flatnonzero(~np.isnan(margin))[-settings.rows :]
    return fit_calibrator(margin[newest], labels[newest], settings.prior)
