from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from offers.contract.sections import Retraining
from offers.monitoring.promise import judge, promised_auc
from offers.monitoring.two_of_three import Action, Signals, decide

SETTINGS = Retraining(cool_down=500, patience=2000, labels=100, outcomes=5, newest=1000, surprise=2.5)
QUIET = Signals(
    data=False,
    score=False,
    performance=False,
    ranks_hold=True,
    labels=5000,
    since_training=5000,
    unlearnt=250,
)
ANY = (True, False, None)


def action(settings: Retraining = SETTINGS, **known: bool | int | None) -> Action:
    return decide(replace(QUIET, **known), settings).action


# Number of breached signals among data and score, performance, ranks: with time and labels enough for a training.
FREE = {
    (0, False, True): "none",
    (0, None, None): "none",
    (0, True, True): "update",
    (0, True, None): "update",
    (0, True, False): "retrain",
    (1, False, True): "none",
    (1, None, None): "none",
    (1, True, True): "retrain",
    (1, True, None): "retrain",
    (1, True, False): "retrain",
    (2, False, True): "retrain",
    (2, None, None): "retrain",
    (2, True, True): "retrain",
    (2, True, None): "retrain",
    (2, True, False): "retrain",
}
# The same while a training has to wait.
WAITING = FREE | {
    (0, True, False): "update",
    (1, True, True): "update",
    (1, True, None): "update",
    (1, True, False): "update",
    (2, False, True): "none",
    (2, None, None): "none",
    (2, True, True): "update",
    (2, True, None): "update",
    (2, True, False): "update",
}
# The same for a model whose layer knows all labels, or that has none.
LEARNT = {key: "none" if action == "update" else action for key, action in FREE.items()}


@pytest.mark.parametrize(("data", "score"), list(product(ANY, ANY)))
@pytest.mark.parametrize(("performance", "ranks_hold"), sorted({key[1:] for key in FREE}, key=str))
@pytest.mark.parametrize(
    ("state", "table"),
    [
        ({}, FREE),
        ({"since_training": 499}, WAITING),
        ({"labels": 99}, WAITING),
        ({"unlearnt": 99}, LEARNT),
        ({"unlearnt": None}, LEARNT),
    ],
    ids=["free", "cooling", "unlabelled", "learnt", "without a layer"],
)
def test_truth_table(
    data: Any, score: Any, performance: Any, ranks_hold: Any, state: dict[str, Any], table: Any
) -> None:
    known = {"data": data, "score": score, "performance": performance, "ranks_hold": ranks_hold}
    expected = table[(data is True) + (score is True), performance, ranks_hold]
    assert action(**known, **state) == expected


@pytest.mark.parametrize(("performance", "since", "expected"), [(True, 500, "retrain"), (False, 1999, "none")])
def test_harm_shortens_the_wait(performance: bool, since: int, expected: str) -> None:
    assert action(data=True, score=True, performance=performance, since_training=since) == expected
    assert action(data=True, score=True, performance=performance, since_training=2000) == "retrain"


@pytest.mark.parametrize(("data", "score"), list(product(ANY, ANY)))
@pytest.mark.parametrize("performance", [False, None])
def test_drift_is_no_disease_while_labels_show_no_harm(data: Any, score: Any, performance: bool | None) -> None:
    known = {"data": data, "score": score, "performance": performance, "since_training": 1999}
    assert action(**known) == "none"


def test_reasons_name_what_is_breached_unknown_and_waited_for() -> None:
    signals = replace(QUIET, data=True, score=None, performance=True, since_training=200)
    reasons = " / ".join(decide(signals, SETTINGS).reasons)
    assert "breached: data drift, performance" in reasons
    assert "too little is known to judge score drift" in reasons
    assert "until 500 rows are scored since the last" in reasons
    assert "it is 200" in reasons
    reasons = " / ".join(decide(replace(signals, labels=7), SETTINGS).reasons)
    assert "waits for 100 new matured labels, there are 7" in reasons


def drawn(n_rows: int, seed: int = 0, spread: float = 1.0, rate: float = -2.0) -> tuple[np.ndarray, np.ndarray]:
    """Propensities, and labels drawn by them."""
    generator = np.random.default_rng(seed)
    propensity = expit(generator.normal(rate, spread, n_rows))
    return (generator.random(n_rows) < propensity).astype(np.int8), propensity


def test_promised_auc_is_that_of_labels_drawn_by_the_propensities() -> None:
    labels, propensity = drawn(400_000)
    assert promised_auc(propensity) == pytest.approx(roc_auc_score(labels, propensity), abs=0.003)


def test_promised_auc_counts_every_pair() -> None:
    p = np.array([0.2, 0.7, 0.5])
    pairs = [(p[i] * (1 - p[j]), float(p[i] > p[j])) for i in range(3) for j in range(3) if i != j]
    expected = sum(weight * above for weight, above in pairs) / sum(weight for weight, _ in pairs)
    assert promised_auc(p) == pytest.approx(expected)


def test_false_alarms_are_as_rare_as_the_threshold_says() -> None:
    settings = SETTINGS.model_copy(update={"surprise": 2.0})
    judged = [judge(*drawn(500, seed), settings) for seed in range(2000)]
    level, ranks = (np.array([getattr(found, name) for found in judged]) for name in ("level", "ranks"))
    assert np.mean(np.abs(level) > 2) == pytest.approx(0.0455, abs=0.015)
    assert np.std(level) == pytest.approx(1, abs=0.05)
    # Hanley and McNeil's error is the exponential distribution's, a little too large for these scores.
    assert 0.8 < np.std(ranks) < 1.05
    assert 0.002 < np.mean(ranks < -2) < 0.03


def test_a_shifted_level_is_a_breach_with_ranks_that_hold() -> None:
    labels, propensity = drawn(1000, rate=-1.0)
    lower = expit(np.log(propensity / (1 - propensity)) - 1)
    found = judge(labels, lower, SETTINGS)
    assert found.breached is True
    assert found.ranks_hold is True
    assert found.level == pytest.approx((labels - lower).sum() / np.sqrt((lower * (1 - lower)).sum()))
    assert "were promised" in found.reasons[0]


def test_lost_ranks_are_a_breach_though_the_level_is_right() -> None:
    labels, propensity = drawn(1000)
    shuffled = np.random.default_rng(1).permutation(propensity)
    found = judge(labels, shuffled, SETTINGS)
    assert abs(found.level) < SETTINGS.surprise
    assert (found.breached, found.ranks_hold) == (True, False)
    assert "AUC" in found.reasons[0]


def test_labels_as_promised_are_no_breach() -> None:
    found = judge(*drawn(1000), SETTINGS)
    assert (found.breached, found.ranks_hold, found.labels) == (False, True, 1000)


def test_few_labels_or_one_outcome_are_not_judged() -> None:
    labels, propensity = drawn(99)
    assert judge(labels, propensity, SETTINGS).breached is None
    assert "99 matured labels, 100 are needed" in judge(labels, propensity, SETTINGS).reasons[0]
    found = judge(np.zeros(200), np.full(200, 0.01), SETTINGS)
    assert (found.breached, found.ranks_hold) == (False, None)


def test_only_the_newest_labels_are_judged() -> None:
    old, new = drawn(3000, seed=1), drawn(1000, seed=2)
    labels, propensity = (np.concatenate(parts) for parts in zip(old, new, strict=True))
    assert judge(1 - labels, propensity, SETTINGS).breached is True
    assert judge(np.concatenate([1 - old[0], new[0]]), propensity, SETTINGS) == judge(*new, SETTINGS)
