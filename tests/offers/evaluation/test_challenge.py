"""Whether the gate tells a worse challenger from a better one, in worlds whose truth is known."""

from functools import cache

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.contract.sections import Challenge
from offers.evaluation import metrics
from offers.evaluation.figures import Duel, Figure
from offers.evaluation.gate import challenge

LABELS, SPREAD = 2000, 1.0


@cache
def noise_for(auc: float, rate: float) -> float:
    """Noise through which margins see the truth where they reach this AUC."""
    generator, mean = np.random.default_rng(1), logit(rate)
    truth, noise = generator.normal(0, SPREAD, 50_000), generator.normal(0, 1, 50_000)
    labels = generator.random(50_000) < expit(truth + mean)
    low, high = 0.0, 10.0
    for _ in range(15):
        middle = (low + high) / 2
        low, high = (middle, high) if roc_auc_score(labels, truth + middle * noise) > auc else (low, middle)
    return low


def logit(rate: float) -> float:
    return float(np.log(rate / (1 - rate)))


def passes(contract: Contract, serving: float, challenger: float, worlds: int, rate: float, shared: float) -> float:
    """Share of worlds in which a challenger of one AUC takes the place of a model of another.

    `shared` is the part of the variance of their noise that is the same: models of one bank learn from the same rows.
    """
    noises, generator, passed = [noise_for(auc, rate) for auc in (challenger, serving)], np.random.default_rng(0), 0
    for _ in range(worlds):
        truth, common = generator.normal(0, SPREAD, LABELS), generator.normal(0, 1, LABELS)
        labels = (generator.random(LABELS) < expit(truth + logit(rate))).astype(int)
        ours, theirs = (
            # Shrunk to what can be known of the truth through this noise.
            expit(logit(rate) + (truth + noise * error) * SPREAD**2 / (SPREAD**2 + noise**2))
            for noise in noises
            for error in [np.sqrt(shared) * common + np.sqrt(1 - shared) * generator.normal(0, 1, LABELS)]
        )
        duel = metrics.duel(labels, np.zeros(LABELS), ours, theirs)
        passed += all(rule.passed for rule in challenge(duel, contract))
    return passed / worlds


@pytest.fixture(scope="module")
def bank() -> Contract:
    """The contract whose `challenge` ships."""
    return contracts.load("bank-marketing")


@pytest.mark.parametrize("worlds", [60, pytest.param(500, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(("rate", "shared"), [(0.2, 0.9), (0.11, 0.9), (0.2, 0.8)])
def test_a_worse_challenger_does_not_pass_and_a_better_one_does(
    bank: Contract, worlds: int, rate: float, shared: float
) -> None:
    assert passes(bank, 0.66, 0.64, worlds, rate, shared) <= 0.05
    assert passes(bank, 0.64, 0.66, worlds, rate, shared) >= 0.8


def test_an_equal_challenger_is_refused_by_chance_in_a_minority_of_worlds(bank: Contract) -> None:
    assert passes(bank, 0.65, 0.65, 60, 0.2, 0.9) >= 0.55


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


def duel_of(
    rows: int = 2000, auc: float | None = 0.01, log_loss: float = -0.01, ece: float = 0.0, error: float = 0.002
) -> Duel:
    ranked = None if auc is None else Figure(value=auc)
    return Duel(rows=rows, auc=ranked, log_loss=Figure(value=log_loss), log_loss_error=error, ece=Figure(value=ece))


@pytest.mark.parametrize(
    ("duel", "passed"),
    [
        (duel_of(), True),
        (duel_of(auc=-0.01, log_loss=0.001, ece=0.02), True),
        (duel_of(auc=-0.0101), False),
        (duel_of(log_loss=0.00101), False),
        (duel_of(log_loss=0.0001, error=0.0), False),
        (duel_of(ece=0.0201), False),
        (duel_of(rows=199), False),
        (duel_of(auc=None), True),
    ],
)
def test_no_figure_may_be_worse_by_more_than_its_margin(shop_contract: Contract, duel: Duel, passed: bool) -> None:
    contract = shop_contract.model_copy(update={"challenge": Challenge()})
    assert all(rule.passed for rule in challenge(duel, contract)) == passed


def test_error_of_the_difference_is_that_of_a_paired_test() -> None:
    generator = np.random.default_rng(0)
    labels, ours, theirs = generator.integers(0, 2, 500), *generator.uniform(0.1, 0.9, (2, 500))
    losses = [np.where(labels == 1, -np.log(values), -np.log(1 - values)) for values in (ours, theirs)]
    expected = stats.ttest_rel(*losses)
    duel = metrics.duel(labels, np.zeros(500), ours, theirs)
    assert duel.log_loss.value / duel.log_loss_error == pytest.approx(expected.statistic, rel=0.01)
