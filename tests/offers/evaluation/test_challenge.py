"""Whether the gate tells a worse challenger from a better one, in worlds whose truth is known."""

import numpy as np
import pytest
from scipy.special import expit

from offers.contract.contract import Contract
from offers.contract.sections import Challenge
from offers.evaluation import metrics
from offers.evaluation.figures import Duel, Figure
from offers.evaluation.gate import challenge

WORLDS, LABELS, RATE = 500, 2000, 0.2


def auc_of(noise: float, n_rows: int = 200_000) -> float:
    """AUC of margins that see the truth through so much noise."""
    generator = np.random.default_rng(1)
    truth = generator.normal(0, 1, n_rows) + np.log(RATE / (1 - RATE))
    labels = generator.random(n_rows) < expit(truth)
    return metrics.score(labels, expit(seen(truth, noise, generator)), 0.1)["auc"].value


def seen(truth: np.ndarray, noise: float, generator: np.random.Generator) -> np.ndarray:
    """The truth through noise, shrunk to what can be known of it."""
    mean = np.log(RATE / (1 - RATE))
    return mean + (truth - mean + generator.normal(0, noise, len(truth))) / (1 + noise**2)


def noise_for(auc: float) -> float:
    low, high = 0.0, 10.0
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if auc_of(middle) > auc else (low, middle)
    return low


def passes(contract: Contract, serving: float, challenger: float) -> float:
    """Share of worlds in which a challenger of one AUC takes the place of a model of another.

    They err together as far as they can: models of one bank learn from the same rows.
    """
    noises = sorted((noise_for(serving), noise_for(challenger)))
    more = np.sqrt(noises[1] ** 2 - noises[0] ** 2)
    generator, passed = np.random.default_rng(0), 0
    mean = np.log(RATE / (1 - RATE))
    for _ in range(WORLDS):
        truth = generator.normal(0, 1, LABELS) + mean
        labels = (generator.random(LABELS) < expit(truth)).astype(int)
        clear = truth - mean + generator.normal(0, noises[0], LABELS)
        blurred = clear + generator.normal(0, more, LABELS)
        better, worse = expit(mean + clear / (1 + noises[0] ** 2)), expit(mean + blurred / (1 + noises[1] ** 2))
        ours, theirs = (better, worse) if challenger > serving else (worse, better)
        duel = metrics.duel(labels, np.zeros(LABELS), ours, theirs)
        passed += all(rule.passed for rule in challenge(duel, contract))
    return passed / WORLDS


@pytest.mark.slow
def test_a_worse_challenger_does_not_pass_and_a_better_one_does(shop_contract: Contract) -> None:
    assert passes(shop_contract, serving=0.68, challenger=0.66) <= 0.05
    assert passes(shop_contract, serving=0.66, challenger=0.68) >= 0.8


def test_ranks_are_compared_within_periods() -> None:
    generator = np.random.default_rng(0)
    periods = np.repeat(["2024-01", "2024-02"], 1000)
    labels = (generator.random(2000) < np.where(periods == "2024-01", 0.1, 0.6)).astype(int)
    level = np.where(periods == "2024-01", 0.1, 0.6)
    ranked = np.clip(level + 0.05 * labels, 0.01, 0.99)
    duel = metrics.duel(labels, periods, ranked, level)
    assert duel.auc is not None
    assert duel.auc.value == pytest.approx(0.5)
    assert duel.log_loss.value < 0


def test_intervals_are_paired() -> None:
    generator = np.random.default_rng(0)
    chance = generator.uniform(0.05, 0.5, 1500)
    labels = (generator.random(1500) < chance).astype(int)
    same = metrics.duel(labels, np.zeros(1500), chance, chance, draws=50)
    assert same.auc == same.log_loss == same.ece == Figure(value=0, low=0, high=0)


def duel_of(rows: int = 2000, auc: float | None = 0.01, log_loss: float = -0.01, ece: float = 0.0) -> Duel:
    ranked = None if auc is None else Figure(value=auc)
    return Duel(rows=rows, auc=ranked, log_loss=Figure(value=log_loss), ece=Figure(value=ece))


@pytest.mark.parametrize(
    ("duel", "passed"),
    [
        (duel_of(), True),
        (duel_of(auc=-0.005, log_loss=0.0, ece=0.02), True),
        (duel_of(auc=-0.0051), False),
        (duel_of(log_loss=0.0001), False),
        (duel_of(ece=0.0201), False),
        (duel_of(rows=199), False),
        (duel_of(auc=None), True),
    ],
)
def test_no_figure_may_be_worse_by_more_than_its_margin(shop_contract: Contract, duel: Duel, passed: bool) -> None:
    contract = shop_contract.model_copy(update={"challenge": Challenge()})
    assert all(rule.passed for rule in challenge(duel, contract)) == passed
