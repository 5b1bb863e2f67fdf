"""Baselines for a replay: random order, scores that ignore the customer, and scores that have seen the future."""

from typing import Literal

import numpy as np
from scipy.special import expit

from offers.backtest.clock import Clock
from offers.backtest.history import History
from offers.data.dataset import windows
from offers.training.learners import BoostedTrees, out_of_fold_margins

Baseline = Literal["random", "trailing rate", "oracle of the window"]

_TRAILING = 200
_FOLDS = 5


def scores(name: Baseline, history: History, clock: Clock) -> np.ndarray:
    """Compute a baseline's propensities for every row after the first training share, shape (n_rows,).

    - random: the acceptance rate of the labels known at the start, with customers in random order
    - trailing rate: the rate of the newest 200 known labels, by the rule of succession; the same for every customer
    - oracle of the window: out-of-fold scores within each window; they see the future, so this is a bound, not a policy
    """
    return {"random": _random, "trailing rate": _trailing, "oracle of the window": _oracle}[name](history, clock)


def trailing_rate(labels: np.ndarray) -> float:
    """Acceptance rate of the newest 200 labels, by the rule of succession."""
    newest = labels[-_TRAILING:]
    return float((newest.sum() + 1) / (len(newest) + 2))


def _random(history: History, clock: Clock) -> np.ndarray:
    labels = history.dataset.labels[: clock.known(history.origin)]
    spread = np.random.default_rng([history.seed, 1]).uniform(0.9, 1.1, len(history.dataset))
    return np.asarray(np.minimum((labels.sum() + 1) / (len(labels) + 2) * spread, 1 - 1e-9))


def _trailing(history: History, clock: Clock) -> np.ndarray:
    accepted = np.concatenate([[0], np.cumsum(history.dataset.labels)])
    end = clock.counts
    begin = np.maximum(end - _TRAILING, 0)
    return np.asarray((accepted[end] - accepted[begin] + 1) / (end - begin + 2))


def _oracle(history: History, clock: Clock) -> np.ndarray:
    contract, labels = history.contract, history.dataset.labels
    settings = contract.model.model_copy(update={"newest_rows": None})
    learner = BoostedTrees.of(contract, settings, history.seed)
    propensity = np.full(len(labels), np.nan)
    for window in windows(contract, len(labels)):
        margin, _ = out_of_fold_margins(
            learner, history.matrix[window], labels[window], _FOLDS, history.seed, workers=1
        )
        propensity[window] = expit(margin)
    return propensity
