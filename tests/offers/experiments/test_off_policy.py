import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from offers.contract import contract as contracts
from offers.errors import DataError
from offers.experiments.off_policy import METHODS, SWITCH_AT, Logged, difference, evaluate, smallest_exploration
from offers.simulation.world import World
from tests.support.off_policy import Kind, Pool, pool

N_ROWS = 2000
KINDS: tuple[Kind, ...] = ("calibrated", "biased", "thin")
pooled: Callable[[Kind], Pool] = cache(pool)


@pytest.mark.parametrize("name", ["bank-marketing", "personal-loan"])
def test_the_world_tells_the_truth_of_given_rows(name: str) -> None:
    world = World(contracts.load(name), seed=3)
    sample = world.sample(3000, seed=5, start=700)
    given = world.propensity(sample.frame, sample.decided_at)
    np.testing.assert_allclose(given, sample.propensity, rtol=1e-12)
    mixed = sample.frame.iloc[::-1].reset_index(drop=True)
    np.testing.assert_allclose(world.propensity(mixed, sample.decided_at[::-1]), sample.propensity[::-1], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_each_method_agrees_with_one_written_plainly(kind: Kind) -> None:
    logged = pooled(kind).decisions(300, np.random.default_rng(1), per_customer=3)
    mass, weights = plain_weights(logged)
    for method in METHODS:
        terms = []
        for row in range(300):
            action, reward = int(logged.action[row]), float(logged.reward[row])
            w = weights[row]
            q = [0.0 if math.isnan(x) else float(x) for x in logged.expected[row]]
            model = sum(
                float(e - b) * x for e, b, x in zip(logged.candidate[row], logged.incumbent[row], q, strict=True)
            )
            terms.append(
                {
                    "ips": w * reward - reward,
                    "snips": w * reward * mass / (sum(weights) / 300) - reward,
                    "dm": model,
                    "dr": model + (w - 1) * (reward - q[action]),
                    "switch_dr": model + ((w - 1) * (reward - q[action]) if w <= SWITCH_AT else 0.0),
                }[method]
            )
        assert difference(logged, method).value == pytest.approx(sum(terms) / 300, abs=1e-9)
        if method != "snips":
            low, high = plain_interval(terms, logged.customer.tolist())
            assert difference(logged, method).low == pytest.approx(low, abs=1e-9)
            assert difference(logged, method).high == pytest.approx(high, abs=1e-9)


def plain_weights(logged: Logged) -> tuple[float, list[float]]:
    rows = range(len(logged.action))
    weights = [float(logged.candidate[r, logged.action[r]] / logged.incumbent[r, logged.action[r]]) for r in rows]
    mass = sum(float(logged.candidate[r][logged.incumbent[r] > 0].sum()) for r in rows) / len(rows)
    return mass, weights


def plain_interval(terms: list[float], customers: list[int]) -> tuple[float, float]:
    mean = sum(terms) / len(terms)
    sums: dict[int, float] = {}
    for term, customer in zip(terms, customers, strict=True):
        sums[customer] = sums.get(customer, 0.0) + term - mean
    variance = sum(value**2 for value in sums.values()) * len(sums) / (len(sums) - 1)
    half = 1.959963984540054 * variance**0.5 / len(terms)
    return mean - half, mean + half


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("worlds", "lowest", "highest"), [(60, 0.85, 1.0), pytest.param(500, 0.92, 0.98, marks=pytest.mark.nightly)]
)
def test_intervals_hold_the_truth_and_each_method_is_as_good_as_it_should_be(
    kind: Kind, worlds: int, lowest: float, highest: float
) -> None:
    world, generator = pooled(kind), np.random.default_rng(7)
    errors = {method: list[float]() for method in METHODS}
    inside, widths, apart, trusted = 0, list[float](), list[float](), 0
    for _ in range(worlds):
        logged = world.decisions(N_ROWS, generator)
        found = evaluate(logged, *world.limits)
        for method in METHODS:
            errors[method].append(found.differences[method].value - world.truth)
        doubly = found.differences["dr"]
        trusted += not found.warnings
        inside += not found.warnings and doubly.low <= world.truth <= doubly.high
        widths.append(doubly.high - doubly.low)
        apart.append(separate_width(logged))
    mse = {method: float(np.mean(np.square(values))) for method, values in errors.items()}
    assert mse["dr"] <= 1.05 * min(mse["ips"], mse["snips"])
    if kind == "thin":
        assert trusted <= 0.05 * worlds
        assert mse["switch_dr"] <= mse["dr"] / 2
        return
    assert trusted == worlds
    assert lowest <= inside / worlds <= highest
    assert np.mean(widths) <= np.mean(apart) / 3
    if kind == "biased":
        assert mse["dr"] <= mse["dm"] / 5


def separate_width(logged: Logged) -> float:
    """How wide the interval is where both policies are valued by themselves, and their errors added."""
    q = np.nan_to_num(logged.expected)
    rows = np.arange(len(logged.action))
    doubly = (logged.candidate * q).sum(axis=1) + logged.weight * (logged.reward - q[rows, logged.action])
    return float(2 * 1.96 * (doubly.std() + logged.reward.std()) / np.sqrt(len(rows)))


@pytest.mark.parametrize("worlds", [100, pytest.param(1000, marks=pytest.mark.nightly)])
def test_better_is_seldom_said_of_an_equal_candidate(worlds: int) -> None:
    world = pooled("calibrated")
    best = np.where(world.incumbent > 0, world.earning, -np.inf).argmax(axis=1)
    greedy = replace(world, candidate=np.eye(world.incumbent.shape[1])[best])
    share = -world.truth / (greedy.truth - world.truth)
    assert 0 < share < 1
    equal = replace(world, candidate=share * greedy.candidate + (1 - share) * world.candidate)
    assert equal.truth == pytest.approx(0, abs=1e-9)
    generator = np.random.default_rng(11)
    said = [difference(equal.decisions(N_ROWS, generator), "dr").verdict for _ in range(worlds)]
    assert said.count("better") <= 0.05 * worlds


def test_decisions_about_one_customer_count_once() -> None:
    world = pooled("calibrated")
    single = world.decisions(1000, np.random.default_rng(2))
    repeated = Logged(*(np.concatenate([getattr(single, part.name)] * 4) for part in fields(Logged)))
    one, four = difference(single, "dr"), difference(repeated, "dr")
    assert four.value == pytest.approx(one.value)
    assert four.high - four.low == pytest.approx(one.high - one.low)


def test_without_exploration_there_are_bounds_and_the_price_of_an_answer() -> None:
    world = pooled("calibrated")
    best = np.where(world.incumbent > 0, world.earning, -np.inf).argmax(axis=1)
    certain = replace(world, incumbent=np.eye(world.incumbent.shape[1])[best])
    logged = certain.decisions(N_ROWS, np.random.default_rng(5))
    found = evaluate(logged, *world.limits)
    assert found.differences == {}
    low, high = found.bounds
    assert low < certain.truth < high
    assert 0 < found.agreement < 1
    answer = smallest_exploration(logged, *world.limits, gain=0.5, decisions=100_000)
    assert answer is not None
    epsilon, price = answer
    assert 0.001 <= epsilon < 1
    uniform = np.isfinite(world.expected) / np.isfinite(world.expected).sum(axis=1, keepdims=True)
    explored = replace(certain, incumbent=(1 - epsilon) * certain.incumbent + epsilon * uniform)
    assert price == pytest.approx(-replace(certain, candidate=explored.incumbent).truth, rel=0.1)
    # So many decisions with that exploration tell such a gain apart.
    told = difference(explored.decisions(100_000, np.random.default_rng(6)), "dr")
    assert (told.high - told.low) / 2 == pytest.approx(0.5, rel=0.25)
    assert smallest_exploration(logged, *world.limits, gain=1e-6, decisions=10) is None


def test_one_customer_tells_nothing() -> None:
    logged = pooled("calibrated").decisions(50, np.random.default_rng(1), per_customer=50)
    assert difference(logged, "dr").verdict == "open"


@pytest.mark.parametrize("broken", ["shown", "sum", "shape", "none"])
def test_what_can_not_be_is_refused(broken: str) -> None:
    logged = pooled("calibrated").decisions(10, np.random.default_rng(1))
    incumbent = logged.incumbent.copy()
    if broken == "shown":
        incumbent[0] = np.eye(incumbent.shape[1])[(logged.action[0] + 1) % incumbent.shape[1]]
    if broken == "sum":
        incumbent[0] *= 0.5
    if broken == "shape":
        incumbent = incumbent[:, :-1]
    rows = slice(0, 0) if broken == "none" else slice(None)
    with pytest.raises(DataError, match="off-policy evaluation: expected"):
        replace(logged, incumbent=incumbent[rows], action=logged.action[rows])
