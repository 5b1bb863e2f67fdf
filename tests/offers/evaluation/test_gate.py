from collections.abc import Callable, Sequence
from typing import Any

import pytest

from offers.contract import contract as contracts
from offers.evaluation.figures import ColumnPower, Comparison, Evaluation, Figure, Scores, Window
from offers.evaluation.gate import GateVerdict, RuleVerdict, decide

Ask = Callable[[str, Evaluation], RuleVerdict]
GOOD = {"auc": 0.78, "log_loss": 0.27, "ece": 0.03, "ks": 0.5}


def scores(**figures: float | None) -> Scores:
    return Scores(
        rows=1000,
        positive_rate=0.1,
        mean_propensity=0.1,
        lift_ceiling=10,
        figures={name: Figure(value=value) for name, value in figures.items() if value is not None},
    )


def window(name: str, **figures: float | None) -> Window:
    model = scores(**{**GOOD, **figures})
    return Window(name=name, first_period="2024-01", last_period="2024-02", model=model, baseline=scores(**GOOD))


def evaluation(
    windows: tuple[Window, ...] = (),
    baseline: dict[str, float] | None = None,
    within: float | None = None,
    chance: float | None = None,
    columns: Sequence[tuple[str, float, float]] = (),
    champion: Comparison | None = None,
    **figures: float | None,
) -> Evaluation:
    return Evaluation(
        contract="shop",
        scheme="made by hand",
        rows=1000,
        model=scores(**{**GOOD, **figures}),
        baseline=scores(**(baseline or {})),
        windows=windows,
        within_period_auc=within,
        within_period_chance=chance,
        random_split=scores(**GOOD),
        segments=(),
        fairness=(),
        drift=(),
        columns=tuple(ColumnPower(column=name, gain_share=gain, auc=auc) for name, gain, auc in columns),
        champion=champion,
    )


def compared(**differences: tuple[float | None, float, float | None]) -> Comparison:
    figures = {name: Figure(value=value, low=low, high=high) for name, (low, value, high) in differences.items()}
    return Comparison(champion="shop-1", scores=scores(**GOOD), differences=figures)


@pytest.fixture
def verdict_of(shop_yaml: str) -> Ask:
    """Ask one rule, in YAML, of an evaluation."""

    def ask(rule: str, measured: Evaluation) -> RuleVerdict:
        contract = contracts.parse(shop_yaml[: shop_yaml.index("gate:")] + f"gate:\n  - {{{rule}}}\n")
        verdict = decide(measured, contract)
        (line,) = verdict.rules
        assert verdict.passed == (line.passed is not False)
        return line

    return ask


WINDOWS = (window("w1", auc=0.70, ece=0.02), window("w2", auc=0.61, ece=0.06), window("w3", auc=0.66, ece=0.03))


@pytest.mark.parametrize(
    ("rule", "measured", "passed"),
    [
        ("metric: auc, at_least: 0.75", evaluation(auc=0.75), True),
        ("metric: auc, at_least: 0.75", evaluation(auc=0.749999), False),
        ("metric: ece, at_most: 0.05", evaluation(ece=0.05), True),
        ("metric: ece, at_most: 0.05", evaluation(ece=0.050001), False),
        ("metric: auc, ceiling: 0.82", evaluation(auc=0.82), True),
        ("metric: auc, ceiling: 0.82", evaluation(auc=0.820001), False),
        ("metric: auc, on: each_window, at_least: 0.61", evaluation(WINDOWS), True),
        ("metric: auc, on: each_window, at_least: 0.611", evaluation(WINDOWS), False),
        ("metric: ece, on: each_window, at_most: 0.06", evaluation(WINDOWS), True),
        ("metric: ece, on: each_window, at_most: 0.059", evaluation(WINDOWS), False),
        ("metric: auc, on: each_window, ceiling: 0.70", evaluation(WINDOWS), True),
        ("metric: auc, on: each_window, ceiling: 0.69", evaluation(WINDOWS), False),
        ("metric: auc, on: within_period, ceiling: 0.7", evaluation(within=0.7), True),
        ("metric: auc, on: within_period, ceiling: 0.7", evaluation(within=0.71), False),
        ("metric: auc, on: within_period, at_least: 0.55", evaluation(within=0.56), True),
        ("metric: auc, on: within_period, at_least: 0.55", evaluation(within=0.54), False),
        ("metric: auc, on: within_period, better_than_chance: true", evaluation(within=0.53, chance=0.52), True),
        ("metric: auc, on: within_period, better_than_chance: true", evaluation(within=0.53, chance=0.53), False),
        ("metric: auc, better_than_baseline: true", evaluation(auc=0.78, baseline={"auc": 0.77}), True),
        ("metric: auc, better_than_baseline: true", evaluation(auc=0.78, baseline={"auc": 0.78}), False),
        ("metric: auc, better_than_baseline: true", evaluation(auc=0.78, baseline={"auc": 0.79}), False),
        ("metric: log_loss, better_than_baseline: true", evaluation(log_loss=0.27, baseline={"log_loss": 0.28}), True),
        ("metric: log_loss, better_than_baseline: true", evaluation(log_loss=0.27, baseline={"log_loss": 0.27}), False),
        ("metric: log_loss, better_than_baseline: true", evaluation(log_loss=0.27, baseline={"log_loss": 0.2}), False),
    ],
)
def test_rule_holds_at_its_threshold_and_not_beyond(
    verdict_of: Ask, rule: str, measured: Evaluation, passed: bool
) -> None:
    line = verdict_of(rule, measured)
    assert line.passed is passed
    assert line.word == ("passed" if passed else "FAILED")


@pytest.mark.parametrize(
    ("rule", "worst", "measured"),
    [
        ("metric: auc, on: each_window, at_least: 0.6", "w2", 0.61),
        ("metric: ece, on: each_window, at_most: 0.05", "w2", 0.06),
        ("metric: auc, on: each_window, at_most: 0.9", "w1", 0.70),
    ],
)
def test_window_that_decides_is_named(verdict_of: Ask, rule: str, worst: str, measured: float) -> None:
    line = verdict_of(rule, evaluation(WINDOWS))
    assert (line.measured, line.note) == (measured, worst)


@pytest.mark.parametrize(
    ("rule", "measured"),
    [
        ("metric: auc, at_least: 0.1", evaluation(auc=None)),
        ("metric: ece, at_most: 0.9", evaluation(ece=None)),
        ("metric: auc, ceiling: 0.99", evaluation(auc=None)),
        ("metric: lift, at_least: 0.1", evaluation()),
        ("metric: auc, on: each_window, at_least: 0.1", evaluation((*WINDOWS, window("w4", auc=None)))),
        ("metric: auc, on: each_window, at_least: 0.1", evaluation(())),
        ("metric: auc, on: each_window, ceiling: 0.99", evaluation(())),
        ("metric: auc, on: within_period, ceiling: 0.99", evaluation(within=None)),
        ("metric: auc, on: within_period, better_than_chance: true", evaluation(within=0.9)),
        ("metric: auc, on: within_period, better_than_chance: true", evaluation(chance=0.5)),
        ("metric: auc, better_than_baseline: true", evaluation(baseline={"ece": 0.1})),
        ("metric: auc, better_than_baseline: true", evaluation(auc=None, baseline={"auc": 0.1})),
        ("metric: auc, not_worse_than_champion_by: 0.5", evaluation(champion=compared(ece=(0, 0, 0)))),
        ("metric: auc, not_worse_than_champion_by: 0.5", evaluation(champion=compared(auc=(None, 0, None)))),
    ],
)
def test_figure_that_was_not_measured_fails(verdict_of: Ask, rule: str, measured: Evaluation) -> None:
    line = verdict_of(rule, measured)
    assert (line.passed, line.measured) == (False, None)
    assert line.note.startswith("not measured")


def test_line_says_rule_threshold_and_measured_value(verdict_of: Ask) -> None:
    windowed, folded = evaluation(WINDOWS, auc=0.78), evaluation(auc=0.78)
    line = verdict_of("metric: auc, at_least: 0.75", windowed)
    assert (line.rule, line.threshold, line.measured) == ("AUC, out of time", ">= 0.75", 0.78)
    assert verdict_of("metric: auc, at_least: 0.75", folded).rule == "AUC, out of fold"
    assert verdict_of("metric: log_loss, at_most: 0.3", folded).rule == "log loss, out of fold"
    assert verdict_of("metric: auc, on: within_period, ceiling: 0.7", windowed).rule == "AUC within a month"
    assert verdict_of("metric: auc, on: each_window, at_least: 0.6", windowed).rule == "AUC, lowest window"
    line = verdict_of("metric: log_loss, better_than_baseline: true", evaluation(baseline={"log_loss": 0.28}))
    assert line.threshold == "< 0.2800 (baseline)"


COLUMNS = [("age", 0.1, 0.55), ("leak", 0.6, 0.93), ("job", 0.15, 0.6), ("month", 0.1, 0.52), ("loan", 0.05, 0.5)]


@pytest.mark.parametrize(
    ("rule", "measured"),
    [
        ("metric: auc, ceiling: 0.82", evaluation(auc=0.94, columns=COLUMNS)),
        ("metric: auc, on: within_period, ceiling: 0.7", evaluation(within=0.9, columns=COLUMNS)),
        ("metric: auc, on: each_window, ceiling: 0.69", evaluation(WINDOWS, columns=COLUMNS)),
    ],
)
def test_figure_too_good_to_be_true_names_the_suspects(verdict_of: Ask, rule: str, measured: Evaluation) -> None:
    line = verdict_of(rule, measured)
    assert not line.passed
    assert line.note == "too good to be true: suspect leakage in leak, job, age"
    assert line.threshold.endswith("(ceiling)")


def test_without_champion_the_comparison_does_not_apply(verdict_of: Ask) -> None:
    line = verdict_of("metric: auc, not_worse_than_champion_by: 0.01", evaluation())
    assert (line.passed, line.measured, line.word) == (None, None, "n/a")
    assert line.note == "there is no champion yet"


@pytest.mark.parametrize(
    ("metric", "interval", "passed"),
    [
        ("auc", (0.01, 0.02, 0.03), True),
        ("auc", (-0.01, 0.0, 0.01), True),
        ("auc", (-0.0101, 0.02, 0.05), False),
        ("auc", (-0.03, -0.02, -0.015), False),
        ("log_loss", (-0.03, -0.02, -0.01), True),
        ("log_loss", (-0.01, 0.0, 0.01), True),
        ("log_loss", (-0.05, -0.02, 0.0101), False),
        ("log_loss", (0.015, 0.02, 0.03), False),
    ],
)
def test_challenger_may_lose_by_the_margin_at_the_worse_end(
    verdict_of: Ask, metric: str, interval: tuple[Any, ...], passed: bool
) -> None:
    measured = evaluation(champion=compared(**{metric: interval}))
    line = verdict_of(f"metric: {metric}, not_worse_than_champion_by: 0.01", measured)
    assert line.passed is passed
    assert line.measured == (interval[2] if metric == "log_loss" else interval[0])
    assert "to shop-1" in line.note


def test_one_rule_may_ask_for_several_things(shop_yaml: str) -> None:
    text = shop_yaml[: shop_yaml.index("gate:")] + "gate:\n  - {metric: auc, at_least: 0.75, ceiling: 0.82}\n"
    verdict = decide(evaluation(auc=0.9), contracts.parse(text))
    assert [line.passed for line in verdict.rules] == [True, False]
    assert not verdict.passed


def test_verdict_needs_every_rule_that_applies() -> None:
    contract = contracts.load("bank-marketing")
    windows = (window("w1", auc=0.70), window("w2", auc=0.62), window("w3", auc=0.66))
    baseline = {"log_loss": 0.28}
    good = evaluation(windows, baseline, 0.62, 0.52)
    verdict = decide(good, contract)
    assert verdict.passed
    assert [line.passed for line in verdict.rules] == [True] * 5
    assert GateVerdict.model_validate_json(verdict.model_dump_json()) == verdict
    for worse in (
        evaluation(windows, baseline, 0.62, 0.52, auc=0.83),
        evaluation(windows, baseline, 0.51, 0.52),
        evaluation(windows, baseline, 0.71, 0.52),
        evaluation(windows, baseline, 0.62, 0.52, ece=0.051),
        evaluation(windows, {"log_loss": 0.26}, 0.62, 0.52),
    ):
        refused = decide(worse, contract)
        assert not refused.passed
        assert sum(line.passed is False for line in refused.rules) == 1
