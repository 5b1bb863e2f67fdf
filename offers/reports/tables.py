"""The results of an evaluation as tables, which HTML and Markdown both show."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.data.validation import Violation
from offers.evaluation.figures import ColumnDrift, ColumnPower, Evaluation, Fairness, Figure, Group, Scores, Segment
from offers.evaluation.gate import GateVerdict, RuleVerdict
from offers.evaluation.segments import groups

MOVED, SHIFTED = 0.1, 0.25
_NOTHING = "–"
_MARKS = {True: ("✓", "passed"), False: ("✗", "failed"), None: ("○", "idle")}
_METRICS = {
    "auc": ("AUC", "an acceptance ranks above a refusal; chance is 0.5"),
    "average_precision": ("Average precision", "chance is the base rate"),
    "log_loss": ("Log-loss", "lower is better"),
    "brier": ("Brier score", "lower is better"),
    "ece": ("Calibration error (ECE)", "lower is better"),
    "ks": ("KS", "largest gap between the outcomes' scores"),
    "lift": ("Lift", "acceptances against contacting at random"),
    "precision": ("Precision", "of the contacted, who accept"),
    "recall": ("Recall", "of those who accept, the contacted"),
    "f1": ("F1", "of precision and recall"),
}


@dataclass(frozen=True)
class Cell:
    """A cell: a smaller `note` beside its text, a `mark` for the style sheet, a `shade` in [0, 1]."""

    text: str
    note: str = ""
    mark: str = ""
    shade: float = 0.0


Row = tuple[Cell, ...]
_Grouped = TypeVar("_Grouped", Segment, Group)


@dataclass(frozen=True)
class Table:
    """Rows as wide as the head. The first cell names its row; a mark in the head holds for the column."""

    head: Row
    rows: tuple[Row, ...]


def figure(value: float | None, digits: int = 3) -> str:
    """Write a figure with fixed decimals, or a dash where there is none."""
    return _NOTHING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """Write a share in [0, 1] as percent with one decimal, or a dash where there is none."""
    return _NOTHING if share is None or math.isnan(share) else f"{share:.1%}"


def count(rows: int) -> str:
    return f"{rows:,}"


def gate(verdict: GateVerdict) -> Table:
    """Tabulate the rules: what was measured, what was required, the verdict."""
    head = (Cell("Rule"), Cell("Measured"), _words("Asked"), _words("Verdict"), _words("Note"))
    return Table(head, tuple(_rule(rule) for rule in verdict.rules))


def quality(evaluation: Evaluation, contract: Contract) -> Table:
    """Tabulate every figure of model, baseline and champion on the same rows, then on the random split."""
    split = "out of time" if contract.time else "optimistic: random split"
    columns = [
        figure_names(contract),
        scores(Cell("Model", split, "model"), evaluation.model),
        scores(Cell("Logistic baseline", split), evaluation.baseline),
    ]
    if evaluation.champion is not None:
        columns += [
            scores(Cell("Champion", split), evaluation.champion.scores),
            _differences(Cell("Model minus champion"), evaluation.champion.differences),
        ]
    if contract.time is not None:
        columns.append(scores(Cell("Model", "optimistic: random split", "optimistic"), evaluation.random_split))
        if evaluation.random_baseline is not None:
            beside = Cell("Logistic baseline", "optimistic: random split", "optimistic")
            columns.append(scores(beside, evaluation.random_baseline))
    head, *rows = zip(*columns, strict=True)
    return Table(head, tuple(rows))


def windows(evaluation: Evaluation, within: Mapping[str, float | None]) -> Table:
    """Tabulate the out-of-time windows, with one line per window and one for all of them.

    Parameters
    ----------
    within : each window's AUC within months, by the window's name; if empty, the column is left out
    """
    inner = {**within, "all": evaluation.within_period_auc} if within else {}
    lines = [
        (Cell(window.name, f"{window.first_period} to {window.last_period}"), window.model, window.baseline)
        for window in evaluation.windows
    ]
    lines.append((Cell("all", "pooled"), evaluation.model, evaluation.baseline))
    auc = ["AUC", "Within a month", "Baseline's AUC"] if within else ["AUC", "Baseline's AUC"]
    head = ("Window", "Rows", "Base rate", *auc, "Average precision", "Log-loss", "ECE", "Lift")
    return Table(tuple(map(Cell, head)), tuple(_window(*line, inner) for line in lines))


def segments(evaluation: Evaluation, contract: Contract) -> dict[str, Table]:
    """Tabulate each of the contract's segments that has groups large enough, with one line per group."""
    head = ["Rows", "Base rate", "Mean propensity", "AUC", "Average precision", "ECE", "Lift", "Ceiling"]
    by_column = {
        name: [segment for segment in evaluation.segments if segment.column == name] for name in contract.segments
    }
    return {
        name: Table(
            (Cell("Group"), *map(Cell, head)),
            tuple(_segment(segment) for segment in _in_order(group, contract[name])),
        )
        for name, group in by_column.items()
        if group
    }


def fairness(fair: Fairness, contract: Contract) -> Table:
    """Tabulate the protected groups at the operating point, with one line per group."""
    head = ["Rows", "Observed rate", "Mean propensity", "Selected", "Precision", "Recall"]
    return Table(
        (Cell("Group"), *map(Cell, head)),
        tuple(
            (
                Cell(group.value),
                Cell(count(group.rows)),
                *(
                    Cell(percent(share))
                    for share in (
                        group.positive_rate,
                        group.mean_propensity,
                        group.selection_rate,
                        group.precision,
                        group.recall,
                    )
                ),
            )
            for group in _in_order(fair.groups, contract[fair.column])
        ),
    )


def drift(columns: Sequence[ColumnDrift], names: Iterable[str]) -> Table:
    """Tabulate the population stability index of each column in each window, the largest first."""
    ranking = sorted(columns, key=lambda column: -max(column.psi))
    return Table((Cell("Column"), *map(Cell, names), _words("Reading")), tuple(_moves(column) for column in ranking))


def power(columns: Sequence[ColumnPower]) -> Table:
    """Tabulate each column's share of the model's gain, and its AUC alone; the largest share first."""
    ranking = sorted(columns, key=lambda column: -column.gain_share)
    most = max(column.gain_share for column in columns) or 1.0
    return Table(
        (Cell("Column"), Cell("Share of gain", mark="bar"), Cell("AUC alone")),
        tuple(
            (Cell(c.column), Cell(percent(c.gain_share), shade=c.gain_share / most), Cell(figure(c.auc)))
            for c in ranking
        ),
    )


def violations(violations_list: Sequence[Violation], rows: int) -> Table:
    """Tabulate broken rules, with one line per rule and examples of rows."""
    return Table(
        (Cell("Column"), _words("Expected"), Cell("Rows that break it"), _words("Examples")),
        tuple(
            (
                Cell(violation.column),
                Cell(violation.expected),
                Cell(count(violation.count), f"of {count(rows)}"),
                Cell("; ".join(f"row {row}: {value}" for row, value in violation.examples) or _NOTHING),
            )
            for violation in violations_list
        ),
    )


def _in_order(grouped: Sequence[_Grouped], column: Column) -> list[_Grouped]:
    """Sort groups by the column's bands or values, others last."""
    if column.bands:
        names = list(groups(pd.Series([column.bands[0] - 1, *column.bands]), column))
    else:
        names = list(column.values)
    return sorted(grouped, key=lambda group: names.index(group.value) if group.value in names else len(names))


def _words(text: str) -> Cell:
    return Cell(text, mark="words")


def _rule(rule: RuleVerdict) -> Row:
    sign, mark = _MARKS[rule.passed]
    return (
        Cell(rule.rule),
        Cell(figure(rule.measured, 4)),
        Cell(rule.threshold),
        Cell(f"{sign} {rule.word}", mark=mark),
        Cell(rule.note),
    )


def figure_names(contract: Contract) -> list[Cell]:
    top = f" at the best {100 * contract.evaluation.contact_share:g}%"
    names = {
        name: (label + top if name in ("lift", "precision", "recall", "f1") else label, note)
        for name, (label, note) in _METRICS.items()
    }
    return [
        Cell("Figure"),
        Cell("Rows"),
        Cell("Base rate", "observed acceptance"),
        Cell("Mean propensity", "expected acceptance"),
        *(Cell(label, note) for label, note in names.values()),
    ]


def scores(head: Cell, scores: Scores) -> list[Cell]:
    return [
        head,
        Cell(count(scores.rows)),
        Cell(percent(scores.positive_rate)),
        Cell(percent(scores.mean_propensity)),
        *(_measured(scores.figures.get(name)) for name in _METRICS),
    ]


def _differences(head: Cell, differences: Mapping[str, Figure]) -> list[Cell]:
    return [head, *[Cell("")] * 3, *(_measured(differences.get(name), "+") for name in _METRICS)]


def _measured(value: Figure | None, sign: str = "-") -> Cell:
    if value is None:
        return Cell(_NOTHING)
    if value.low is None or value.high is None:
        return Cell(f"{value.value:{sign}.3f}")
    return Cell(f"{value.value:{sign}.3f}", f"{value.low:{sign}.3f} to {value.high:{sign}.3f}")


def _value(scores: Scores, metric: str, digits: int = 3, note: str = "") -> Cell:
    figure_of = scores.figures.get(metric)
    return Cell(_NOTHING) if figure_of is None else Cell(figure(figure_of.value, digits), note)


def _window(name: Cell, model: Scores, baseline: Scores, inner: Mapping[str, float | None]) -> Row:
    return (
        name,
        Cell(count(model.rows)),
        Cell(percent(model.positive_rate)),
        _measured(model.figures.get("auc")),
        *([Cell(figure(inner.get(name.text)))] if inner else []),
        _value(baseline, "auc"),
        *(_value(model, metric) for metric in ("average_precision", "log_loss", "ece")),
        _value(model, "lift", 2, f"of {figure(model.lift_ceiling, 2)}"),
    )


def _segment(segment: Segment) -> Row:
    scores = segment.scores
    return (
        Cell(segment.value),
        Cell(count(scores.rows)),
        Cell(percent(scores.positive_rate)),
        Cell(percent(scores.mean_propensity)),
        *(_value(scores, metric) for metric in ("auc", "average_precision", "ece")),
        _value(scores, "lift", 2),
        Cell(figure(scores.lift_ceiling, 2)),
    )


def _moves(column: ColumnDrift) -> Row:
    worst = max(column.psi)
    reading = "shifted" if worst >= SHIFTED else "moved" if worst >= MOVED else "stable"
    return Cell(column.column), *(Cell(figure(psi, 2), shade=_shade(psi)) for psi in column.psi), Cell(reading)


def _shade(psi: float) -> float:
    return float(np.interp(psi, [0.02, MOVED, SHIFTED, 1, 5], [0, 0.2, 0.4, 0.7, 1]))
