"""Statistics of experiments against known truth: worlds in which the arms are alike, and others."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from offers.experiments.comparison import MISMATCH, ArmResult, Guardrail, adjusted, compare, mismatch
from offers.experiments.confidence import radius

LOOKS, WORLDS, CUSTOMERS = 40, 1000, 20_000
HALVES = {"control": 0.5, "a": 0.5}


def looks(control: float, arm: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference, its variance and customers of both arms at each look, shape (WORLDS, LOOKS)."""
    generator = np.random.default_rng(seed)
    n = CUSTOMERS // LOOKS * np.arange(1, LOOKS + 1)
    rates = [generator.binomial(CUSTOMERS // LOOKS, p, (WORLDS, LOOKS)).cumsum(axis=1) / n for p in (control, arm)]
    variance = sum(rate * (1 - rate) / n for rate in rates)
    return rates[1] - rates[0], np.asarray(variance), np.broadcast_to(2 * n, rates[0].shape)


def test_of_a_thousand_worlds_without_a_difference_few_stop_at_any_of_forty_looks() -> None:
    difference, variance, n = looks(0.11, 0.11, 1)
    stopped = (np.abs(difference) > radius(variance, n)).any(axis=1).mean()
    plain = (np.abs(difference) > 1.96 * np.sqrt(variance)).any(axis=1).mean()
    assert stopped <= 0.05
    assert plain > 0.2


def test_a_lift_of_a_fifth_is_found() -> None:
    difference, variance, n = looks(0.11, 0.11 * 1.2, 2)
    assert (difference > radius(variance, n)).any(axis=1).mean() >= 0.95
    assert (difference < -radius(variance, n)).any(axis=1).mean() == 0


def test_an_arm_that_loses_events_is_flagged_and_a_whole_one_is_not() -> None:
    assert mismatch([50_000, 48_500], [0.5, 0.5]) < MISMATCH
    generator = np.random.default_rng(3)
    arms = generator.binomial(100_000, 0.1, WORLDS)
    values = [mismatch([100_000 - k, k], [0.9, 0.1]) for k in arms]
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert np.isclose(mismatch([60, 30, 10], [0.5, 0.3, 0.2]), stats.chisquare([60, 30, 10], [50, 30, 20]).pvalue)


def customers(n: int, seed: int, gain: float = 0.0, **more: object) -> pd.DataFrame:
    """Half of the customers in each arm: EUR follow the propensity, and the arm earns `gain` more."""
    generator = np.random.default_rng(seed)
    propensity, is_arm = generator.uniform(0, 0.4, n), np.arange(n) % 2 == 1
    converted = generator.random(n) < propensity
    frame = pd.DataFrame(
        {
            "arm": np.where(is_arm, "a", "control"),
            "converted": converted.astype(float),
            "earned": 100 * propensity + generator.normal(0, 5, n) + gain * is_arm,
            "covariate": propensity,
            "decisions": 1,
            "fallbacks": 0,
            "exposed": 1.0,
            "latency": generator.gamma(4, 2, n),
            "age": generator.choice(["young", "old"], n),
        }
    )
    return frame.assign(**more)


def arm_of(frame: pd.DataFrame) -> ArmResult:
    (arm,) = compare(frame, HALVES, ["age"]).arms
    return arm


def test_the_covariate_spares_what_it_explains_and_keeps_the_difference() -> None:
    # Of a variance of 133 + 25 the propensity explains 133.
    frame = customers(4000, 4, gain=0.9)
    arm, plain = arm_of(frame), arm_of(frame.assign(covariate=np.nan))
    assert arm.spared == pytest.approx(133.3 / 158.3, abs=0.02)
    assert plain.spared == 0
    assert arm.earned_more.low < 0.9 < arm.earned_more.high
    width = (arm.earned_more.high - arm.earned_more.low) / (plain.earned_more.high - plain.earned_more.low)
    assert width == pytest.approx(np.sqrt(25 / 158.3), abs=0.02)
    assert (arm.verdict, plain.verdict) == ("better", "open")


def test_a_covariate_that_the_arm_has_moved_is_not_used() -> None:
    frame = customers(4000, 5)
    moved = frame["covariate"] + 0.05 * (frame["arm"] == "a")
    values = frame["earned"].to_numpy()
    same, spared = adjusted(values, moved.to_numpy(), (frame["arm"] == "a").to_numpy())
    assert spared == 0
    assert same is values


def test_few_customers_neither_stop_nor_pass() -> None:
    arm = arm_of(customers(300, 6, gain=50.0))
    assert arm.verdict == "too few"
    assert {rail.verdict for rail in arm.guardrails} == {"too few"}


def test_guardrails_see_fallbacks_and_who_is_offered_less() -> None:
    def rails(frame: pd.DataFrame) -> dict[str, Guardrail]:
        return {rail.name: rail for rail in arm_of(frame).guardrails}

    frame = customers(4000, 7)
    assert {rail.verdict for rail in rails(frame).values()} == {"passes"}
    away = (frame["arm"] == "a") & (np.arange(len(frame)) % 10 == 1)
    assert rails(frame.assign(fallbacks=away.astype(int)))["answers without its predictor"].verdict == "fails"
    slow = (frame["arm"] == "a") & (np.arange(len(frame)) % 8 == 1)
    latency = rails(frame.assign(latency=frame["latency"] + 40.0 * slow))["95th percentile of its predictor's latency"]
    assert (latency.verdict, latency.unit) == ("fails", "ms")
    assert latency.arm > 40 > latency.control
    slower = rails(frame.assign(latency=frame["latency"] + 2.0 * (frame["arm"] == "a")))
    assert slower[latency.name].verdict == "passes"
    passed_over = (frame["arm"] == "a") & (frame["age"] == "old") & (np.arange(len(frame)) % 4 == 1)
    exposure = rails(frame.assign(exposed=1.0 - passed_over))["exposure by age"]
    assert exposure.verdict == "fails"
    assert (exposure.arm, exposure.control) == (pytest.approx(0.5, abs=0.05), 1)


def test_outcomes_that_are_not_known_yet_count_as_nothing() -> None:
    frame = customers(2000, 8)
    half = frame.assign(converted=frame["converted"].where(np.arange(len(frame)) < 1000))
    result = compare(half, HALVES)
    assert result.counts == {"control": 1000, "a": 1000}
    assert result.arms[0].customers == result.control[0] == 500
    assert not result.mismatched
