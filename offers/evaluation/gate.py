"""The gate: checks measured figures against the contract's rules. A figure that was not measured fails."""

from collections.abc import Callable, Iterator
from typing import Any

from offers.contract.contract import Contract
from offers.contract.sections import GateRule
from offers.evaluation.figures import LOWER_IS_BETTER, ColumnPower, Duel, Evaluation, Figure
from offers.record import Record

_SUSPECTS = 3
_INITIALS = ("auc", "ece", "ks", "f1")


class RuleVerdict(Record, extra="ignore"):
    """One line of the gate: the rule, the measured figure, and whether the rule holds.

    `passed` is None where the rule does not apply, because there is no champion to compare with.
    """

    rule: str
    threshold: str
    measured: float | None
    passed: bool | None
    note: str = ""

    @property
    def word(self) -> str:
        return {True: "passed", False: "FAILED", None: "n/a"}[self.passed]


class GateVerdict(Record, extra="ignore"):
    """The gate's answer. `passed` is true if every rule that applies holds."""

    contract: str
    passed: bool
    rules: tuple[RuleVerdict, ...]


def decide(evaluation: Evaluation, contract: Contract) -> GateVerdict:
    """Judge a candidate's figures by the rules of the contract.

    A first model must satisfy every rule of the gate. Where a model serves already, the question is whether the
    candidate should replace it. `challenge` answers that, and only the gate's ceilings and comparisons apply as well.
    """
    duel = evaluation.champion.newest if evaluation.champion else None
    if duel is None:
        rules = tuple(verdict for rule in contract.gate for verdict in _verdicts(rule, evaluation))
    else:
        first_only = {"at_least": None, "at_most": None, "better_than_chance": False}
        other_rules = (rule.model_copy(update=first_only) for rule in contract.gate)
        rules = (
            *challenge(duel, contract),
            *(verdict for rule in other_rules for verdict in _verdicts(rule, evaluation)),
        )
    return GateVerdict(
        contract=contract.name, passed=all(verdict.passed is not False for verdict in rules), rules=rules
    )


def decide_update(evaluation: Evaluation, contract: Contract) -> GateVerdict:
    """Judge an update by comparing it with the model that serves. It has the same trees, so no other rule applies."""
    duel = evaluation.champion.newest if evaluation.champion else None
    rules = () if duel is None else challenge(duel, contract)
    return GateVerdict(contract=contract.name, passed=bool(rules) and all(rule.passed for rule in rules), rules=rules)


def compares(contract: Contract) -> bool:
    """Whether a rule of the gate compares a candidate with the champion on all windows."""
    return any(rule.not_worse_than_champion_by is not None for rule in contract.gate)


def asks_more(contract: Contract) -> bool:
    """Whether the gate asks more of a challenger than `challenge`: ceilings, the baseline, or the champion."""
    extra = (
        (rule.ceiling, rule.not_worse_than_champion_by, rule.better_than_baseline or None) for rule in contract.gate
    )
    return any(value is not None for values in extra for value in values)


def challenge(duel: Duel, contract: Contract) -> tuple[RuleVerdict, ...]:
    """Compare a challenger with the serving model, which it may replace if no figure is worse than allowed.

    The pipeline and the backtest's replay use the same rules.
    """
    terms = contract.challenge
    if duel.rows < terms.fewest:
        few = f"{duel.rows} matured rows are too few to tell"
        return (
            RuleVerdict(rule="newest rows", threshold=f">= {terms.fewest}", measured=duel.rows, passed=False, note=few),
        )
    where = f", newest {duel.rows} rows, against what serves"
    # Equal models differ by chance, and the challenger has learnt from newer rows than those that stand in for it.
    limit = terms.log_loss + terms.chance * duel.log_loss_error
    losses = (("log loss", duel.log_loss, limit), ("ECE", duel.ece, terms.ece))
    rules = [_lost(f"{name}{where}", figure, margin) for name, figure, margin in losses]
    if duel.auc is not None:
        floor = -terms.auc
        rules.insert(0, _told(f"AUC within a month{where}", f">= {floor:g}", duel.auc, duel.auc.value >= floor))
    return tuple(rules)


def _lost(name: str, figure: Figure, margin: float) -> RuleVerdict:
    return _told(name, f"<= {margin:.4g}", figure, figure.value <= margin)


def _told(name: str, threshold: str, figure: Figure, passed: bool) -> RuleVerdict:
    return RuleVerdict(
        rule=name, threshold=threshold, measured=figure.value, passed=passed, note=f"difference {figure}"
    )


def _verdicts(rule: GateRule, evaluation: Evaluation) -> Iterator[RuleVerdict]:
    if (floor := rule.at_least) is not None:
        name, figure, where = _measured(rule, evaluation, min)
        yield _verdict(name, f">= {floor:g}", figure, lambda value: value >= floor, where)
    if (limit := rule.at_most) is not None:
        name, figure, where = _measured(rule, evaluation, max)
        yield _verdict(name, f"<= {limit:g}", figure, lambda value: value <= limit, where)
    if rule.ceiling is not None:
        yield _too_good(rule, rule.ceiling, evaluation)
    if rule.better_than_chance:
        yield _against_chance(rule, evaluation)
    if rule.better_than_baseline:
        yield _against_baseline(rule, evaluation)
    if rule.not_worse_than_champion_by is not None:
        yield _against_champion(rule, rule.not_worse_than_champion_by, evaluation)


def _measured(
    rule: GateRule, evaluation: Evaluation, decisive: Callable[..., Any] = min
) -> tuple[str, float | None, str]:
    """Find the rule's name, the figure that decides it, and the place where that figure was measured.

    Among windows, the one with the lowest (`decisive` is min) or highest (max) figure decides.
    """
    label = _label(rule)
    if rule.on == "within_period":
        value = evaluation.within_period_auc if rule.metric == "auc" else None
        return f"{label} within a month", value, ""
    if rule.on == "each_window":
        name = f"{label}, {'lowest' if decisive is min else 'highest'} window"
        figures = [(window.model.figures.get(rule.metric), window.name) for window in evaluation.windows]
        measures = [(figure.value, window) for figure, window in figures if figure is not None]
        if not figures or len(measures) < len(figures):
            return name, None, ""
        return name, *decisive(measures)
    figure = evaluation.model.figures.get(rule.metric)
    where = "out of time" if evaluation.windows else "out of fold"
    return f"{label}, {where}", figure.value if figure else None, ""


def _label(rule: GateRule) -> str:
    return rule.metric.upper() if rule.metric in _INITIALS else rule.metric.replace("_", " ")


def _verdict(
    name: str, threshold: str, measured: float | None, holds: Callable[[float], bool], note: str = ""
) -> RuleVerdict:
    if measured is None:
        return RuleVerdict(
            rule=name, threshold=threshold, measured=None, passed=False, note="not measured, so it fails"
        )
    return RuleVerdict(rule=name, threshold=threshold, measured=measured, passed=holds(measured), note=note)


def _too_good(rule: GateRule, ceiling: float, evaluation: Evaluation) -> RuleVerdict:
    name, figure, where = _measured(rule, evaluation, max)
    threshold = f"<= {ceiling:g} (ceiling)"
    verdict = _verdict(name, threshold, figure, lambda value: value <= ceiling, where)
    if figure is None or verdict.passed:
        return verdict

    def power(column: ColumnPower) -> float:
        return (0.0 if column.auc is None else column.auc - 0.5) + column.gain_share

    by_power = sorted(evaluation.columns, key=power, reverse=True)
    suspects = ", ".join(column.column for column in by_power[:_SUSPECTS])
    return verdict.model_copy(update={"note": f"too good to be true: suspect leakage in {suspects}"})


def _against_chance(rule: GateRule, evaluation: Evaluation) -> RuleVerdict:
    name, figure, _ = _measured(rule, evaluation)
    bar = evaluation.within_period_chance
    if bar is None:
        return _verdict(name, "better than chance", None, bool)
    note = "95 % of random scores stay below"
    return _verdict(name, f"> {bar:.4f} (chance)", figure, lambda value: value > bar, note)


def _against_baseline(rule: GateRule, evaluation: Evaluation) -> RuleVerdict:
    name, figure, _ = _measured(rule, evaluation)
    baseline = evaluation.baseline.figures.get(rule.metric)
    if baseline is None:
        return _verdict(name, "better than the baseline", None, bool)
    bar, lower = baseline.value, rule.metric in LOWER_IS_BETTER
    return _verdict(
        name,
        f"{'<' if lower else '>'} {bar:.4f} (baseline)",
        figure,
        lambda value: value < bar if lower else value > bar,
    )


def _against_champion(rule: GateRule, margin: float, evaluation: Evaluation) -> RuleVerdict:
    lower = rule.metric in LOWER_IS_BETTER
    threshold = f"{'<= ' if lower else '>= -'}{margin:g} (champion)"
    name = f"{_label(rule)} against the champion"
    if evaluation.champion is None:
        return RuleVerdict(rule=name, threshold=threshold, measured=None, passed=None, note="there is no champion yet")
    difference = evaluation.champion.differences.get(rule.metric)
    worse_end = None if difference is None else (difference.high if lower else difference.low)
    note = "" if difference is None else f"{difference} to {evaluation.champion.champion}; the worse end counts"
    return _verdict(name, threshold, worse_end, lambda end: end <= margin if lower else end >= -margin, note)
