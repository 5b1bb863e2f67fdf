"""Laplace updates of logistic regressions: the posterior becomes a Gaussian around its mode (MacKay 1992)."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

_STEPS, _HALVINGS, _CLOSE = 50, 30, 1e-9


def posterior(
    mean: np.ndarray, covariance: np.ndarray, inputs: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute a Laplace update: the mode by Newton's method with step halving, and the inverse Hessian there."""
    precision, weights = np.linalg.inv(covariance), mean
    value = _objective(weights, mean, precision, inputs, labels)
    for _ in range(_STEPS):
        chance = expit(inputs @ weights)
        gradient = inputs.T @ (labels - chance) - precision @ (weights - mean)
        step = np.linalg.solve(_hessian(chance, inputs, precision), gradient)
        for _ in range(_HALVINGS):
            new = _objective(weights + step, mean, precision, inputs, labels)
            if new <= value:
                break
            step /= 2
        else:
            break
        weights, gain, value = weights + step, value - new, new
        if gain <= _CLOSE * max(1.0, abs(value)):
            break
    hessian = _hessian(expit(inputs @ weights), inputs, precision)
    covariance = np.linalg.inv(hessian)
    return weights, (covariance + covariance.T) / 2


def level_posterior(offset: float, doubt: float, margin: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Compute a Laplace update of an offset that is added to given margins: mode and variance.

    The objective is convex in one dimension, with its mode within `doubt` times the number of rows of the prior's mean.
    """
    reach = doubt * len(labels) + 1e-9

    def slope(value: float) -> float:
        return float((expit(margin + value) - labels).sum() + (value - offset) / doubt)

    mode = float(brentq(slope, offset - reach, offset + reach, xtol=1e-12))
    chance = expit(margin + mode)
    return mode, float(1 / (1 / doubt + (chance * (1 - chance)).sum()))


def _hessian(chance: np.ndarray, inputs: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return np.asarray((inputs * (chance * (1 - chance))[:, None]).T @ inputs + precision)


def _objective(
    weights: np.ndarray, mean: np.ndarray, precision: np.ndarray, inputs: np.ndarray, labels: np.ndarray
) -> float:
    distance = weights - mean
    return log_loss(inputs @ weights, labels) + float(distance @ precision @ distance) / 2


def log_loss(margin: np.ndarray, labels: np.ndarray) -> float:
    return float(np.logaddexp(0, margin).sum() - labels @ margin)
