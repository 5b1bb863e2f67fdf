"""What a policy is held against: no order, scores that know no customer, and scores that have seen the future."""

from typing import Literal

import numpy as np
from scipy.special import expit

from offers.backtest.replay import History
from offers.data.dataset import windows
from offers.model.encoder import Encoder
from offers.training.learners import BoostedTrees, out_of_fold_margins

Baseline = Literal["random", "trailing rate", "oracle of the window"]

_TRAILING = 200
_FOLDS = 5


def scores(name: Baseline, history: History, delay: int) -> np.ndarray:
    """Propensities of every row after the first training share, shape (n_rows,); NaN before it.

    - random: the rate of all known labels, and customers in no order
    - trailing rate: the rate of the newest 200 known labels, the same for every customer
    - oracle of the window: folds within each window; it sees the future, so it is a bound and no policy
    """
    return {"random": _random, "trailing rate": _trailing, "oracle of the window": _oracle}[name](history, delay)


def _random(history: History, delay: int) -> np.ndarray:
    spread = np.random.default_rng(history.seed).uniform(0.9, 1.1, len(history.dataset))
    return np.minimum(_rates(history, delay, len(history.dataset)) * spread, 1 - 1e-9)


def _trailing(history: History, delay: int) -> np.ndarray:
    return _rates(history, delay, _TRAILING)


def _rates(history: History, delay: int, newest: int) -> np.ndarray:
    """Acceptance rate of the newest known labels at each row, by the rule of succession."""
    accepted = np.concatenate([[0], np.cumsum(history.dataset.labels)])
    end = np.maximum(np.arange(len(history.dataset)) - delay, 0)
    begin = np.maximum(end - newest, 0)
    rates = (accepted[end] - accepted[begin] + 1) / (end - begin + 2)
    return np.where(np.arange(len(rates)) < history.origin, np.nan, rates)


def _oracle(history: History, delay: int) -> np.ndarray:
    contract, labels = history.contract, history.dataset.labels
    settings = contract.model.model_copy(update={"newest_rows": None})
    learner = BoostedTrees(settings, tuple(Encoder.of(contract).feature_types), history.seed)
    propensity = np.full(len(labels), np.nan)
    for window in windows(contract, len(labels)):
        margin, _ = out_of_fold_margins(
            learner, history.matrix[window], labels[window], _FOLDS, history.seed, workers=1
        )
        propensity[window] = expit(margin)
    return propensity
