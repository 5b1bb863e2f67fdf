"""Calibration on margins of rows that the scoring fit had not seen, by the method that held-out rows favour."""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from offers.contract.sections import Calibration
from offers.model.calibrator import Beta, Calibrator, Isotonic, Platt

Method = Literal["none", "platt", "beta", "isotonic"]

_SIMPLEST_FIRST: tuple[Method, ...] = get_args(Method)
_PARTS, _FOLDS = 4, 5
_ERRORS = 2.0
"""How many standard errors of log-loss a method must gain over a simpler one."""
_DIGITS = 6


def calibration_edges(n_rows: int, refit_every: int, settings: Calibration) -> list[int]:
    """List the first rows of the blocks before `n_rows` on whose margins the calibrator is fitted."""
    if settings.method == "none":
        return []
    count = -(-settings.rows // refit_every)
    return [n_rows - refit_every * k for k in range(count, 0, -1) if n_rows - refit_every * k >= refit_every]


def calibrate(margin: np.ndarray, labels: np.ndarray, settings: Calibration, ordered: bool = True) -> Calibrator:
    """Fit the calibrator on the newest `settings.rows` rows that have a margin.

    Parameters
    ----------
    ordered : whether rows are in time order; then methods are compared on rows newer than those they are fitted on
    """
    newest = np.flatnonzero(~np.isnan(margin))[-settings.rows :]
    margin, labels = margin[newest].astype(np.float64), labels[newest].astype(np.float64)
    # Matrices of two or three columns are so small that more threads would only wait.
    with threadpool_limits(1):
        method = (
            choose_method(margin, labels, settings.prior, ordered) if settings.method == "auto" else settings.method
        )
        return fit_calibrator(method, margin, labels, settings.prior)


def choose_method(margin: np.ndarray, labels: np.ndarray, prior: float, ordered: bool) -> Method:
    """Choose the simplest method whose held-out log-loss is not clearly higher than that of the best.

    Clearly means by more than two standard errors of the rows' differences. It is the rule of Breiman et al. (1984)
    with two errors for one, because rows of one time err together. In time order each quarter is scored by fits on the
    quarters before it, else each fold by fits on the others.
    """
    splits = list(_splits(len(labels), ordered))
    if not splits:
        return "none"
    losses = {
        method: np.concatenate([_held_out(method, margin, labels, prior, *split) for split in splits])
        for method in _SIMPLEST_FIRST
    }
    best = min(losses.values(), key=np.sum)
    return next(method for method, loss in losses.items() if _close(loss - best))


def fit_calibrator(method: Method, margin: np.ndarray, labels: np.ndarray, prior: float) -> Calibrator:
    """Fit a calibrator on margins of rows that the model had not seen.

    A prior pulls it towards leaving margins unchanged, with the weight of `prior` rows whose labels agree with them.

    Parameters
    ----------
    margin : ndarray, shape (n,), log-odds
    labels : ndarray of 0/1, shape (n,)
    prior : weight in rows, at least 0; isotonic calibration takes at least 1, so that log-odds stay finite
    """
    margin, labels = margin.astype(np.float64), labels.astype(np.float64)
    if method == "none" or not len(labels):
        return Platt()
    if method == "isotonic":
        return _isotonic(margin, labels, max(prior, 1.0))
    if method == "platt":
        inputs = np.column_stack([margin, np.ones_like(margin)])
        return Platt(*_logistic(inputs, margin, labels, prior, unchanged=(1.0, 0.0), lowest=-np.inf))
    inputs = np.column_stack([-np.logaddexp(0, -margin), np.logaddexp(0, margin), np.ones_like(margin)])
    return Beta(*_logistic(inputs, margin, labels, prior, unchanged=(1.0, 1.0, 0.0), lowest=0.0))


def _logistic(
    inputs: np.ndarray,
    margin: np.ndarray,
    labels: np.ndarray,
    prior: float,
    unchanged: tuple[float, ...],
    lowest: float,
) -> list[float]:
    """Fit weights whose prior is the Fisher information of `prior` rows around the weights that change nothing.

    It is `prior` times the mean of p (1 - p) x x' over the inputs x. Weights but the last are at least `lowest`.
    """
    chance, start = expit(margin), np.array(unchanged)
    precision = prior / len(labels) * (inputs * (chance * (1 - chance))[:, None]).T @ inputs

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds, change = inputs @ weights, weights - start
        value = np.logaddexp(0, log_odds).sum() - labels @ log_odds + change @ precision @ change / 2
        return value, inputs.T @ (expit(log_odds) - labels) + precision @ change

    bounds = [(lowest, np.inf)] * (len(start) - 1) + [(-np.inf, np.inf)]
    # Rounding keeps the optimiser's last bits out of the bundle's name.
    return [
        round(float(weight), _DIGITS) for weight in minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    ]


def _isotonic(margin: np.ndarray, labels: np.ndarray, prior: float) -> Isotonic:
    """Fit rates that do not fall; each row shares its label with its part of the prior's rows."""
    weight = prior / len(labels)
    values, places, counts = np.unique(margin.round(_DIGITS), return_inverse=True, return_counts=True)
    rates = np.bincount(places, (labels + weight * expit(margin)) / (1 + weight)) / counts
    fitted = isotonic_regression(rates, weights=counts)
    starts, rows = fitted.blocks[:-1], np.add.reduceat(counts, fitted.blocks[:-1])
    centres = np.add.reduceat(values * counts, starts) / rows
    knots = np.round(logit(fitted.x[starts]), _DIGITS)
    return Isotonic(tuple(np.round(centres, _DIGITS).tolist()), tuple(knots.tolist()))


def _splits(n_rows: int, ordered: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows to score, as places."""
    places = np.arange(n_rows)
    if not ordered:
        for fold in range(_FOLDS if n_rows >= _FOLDS else 0):
            yield places[places % _FOLDS != fold], places[places % _FOLDS == fold]
        return
    parts = np.array_split(places, _PARTS)
    for number in range(1, _PARTS if n_rows >= _PARTS else 0):
        yield np.concatenate(parts[:number]), parts[number]


def _held_out(
    method: Method, margin: np.ndarray, labels: np.ndarray, prior: float, fitting: np.ndarray, scoring: np.ndarray
) -> np.ndarray:
    log_odds = fit_calibrator(method, margin[fitting], labels[fitting], prior).log_odds(margin[scoring])
    return np.asarray(np.logaddexp(0, log_odds) - labels[scoring] * log_odds)


def _close(excess: np.ndarray) -> bool:
    return bool(excess.sum() <= _ERRORS * np.sqrt(len(excess)) * excess.std())
