"""The page of a monitoring run: verdict, signals, volume, quality, drift, performance and fairness of a period."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from offers.contract.contract import Contract
from offers.evaluation.figures import Evaluation
from offers.monitoring.findings import Drift, Findings, Labels, Monitoring, Performance, RowQuality, Surprise, Volume
from offers.reports import charts, drawing, plots, tables
from offers.reports import training as report
from offers.reports.charts import Chart
from offers.reports.drawing import Plot
from offers.reports.tables import Cell, Row, Table
from offers.wording import some

_ACTIONS = {
    "none": "Nothing to do: what was seen asks for no change of the model.",
    "update": "Update: labels have moved away from the propensities, and the layer has not learnt them yet.",
    "retrain": "Retrain: the world is no longer the one that the model was trained on.",
}
_WAITING = "Look at the alarm: the reasons say why the model is left as it is."
_SIGNALS = {
    "data": "Customers and circumstances, as the model sees them",
    "score": "Propensities that the model gives",
    "performance": "Propensities against mature outcomes",
}
_STATES = {True: ("! alarm", "failed"), False: ("✓ quiet", "passed"), None: ("○ not judged", "idle")}
_LISTS = (
    ("watched", "Watched columns", ""),
    ("expected", "Columns that the contract expects to drift", "Shown, and never an alarm."),
    ("ours", "Columns that the bank itself sets", "They move with the policy, and are never an alarm."),
)
_MOST_DAYS, _MOST_WINDOWS, _MOST_LINES = 60, 12, 6


def headline(monitoring: Monitoring) -> str:
    """Say the verdict in one sentence."""
    return _WAITING if monitoring.action == "none" and not monitoring.quiet else _ACTIONS[monitoring.action]


def monitoring_report(
    contract: Contract,
    monitoring: Monitoring,
    evaluation: Evaluation,
    learnt: pd.DataFrame,
    facts: Mapping[str, str] = {},
) -> str:
    """Write the report of a monitoring run as one HTML page that loads nothing.

    Parameters
    ----------
    evaluation : the bundle's evaluation, by which the gate judged
    learnt : one row per mature and labelled decision: period, label, propensity
    facts : further facts about the run, shown unchanged at the end
    """
    findings = monitoring.findings
    return report.HTML.get_template("monitoring.html").render(
        contract=contract,
        found=findings,
        quiet=monitoring.quiet,
        reasons=monitoring.reasons,
        headline=headline(monitoring),
        signals=_signals(monitoring),
        total=sum(day.rows for day in findings.volume.days),
        volume=[_per_day(findings.volume)] if len(findings.volume.days) > 1 else [],
        some=some,
        quality=_quality(findings.quality),
        faults=_faults(findings.quality),
        gaps=_gaps(findings.quality),
        drift=_distances(findings.drift) if findings.drift.windows else [],
        shown=min(len(findings.drift.windows), _MOST_WINDOWS),
        score=[_mean_propensity(findings.drift)] if len(findings.drift.windows) > 1 else [],
        labels=_labels(findings.labels),
        figures=_figures(findings.performance, contract) if findings.performance else None,
        surprises=_surprises(findings.performance) if findings.performance else None,
        curves=_curves(findings, evaluation, learnt, contract),
        fairness=[(fair, tables.fairness(fair, contract)) for fair in findings.performance.fairness]
        if findings.performance
        else [],
        top=f"{100 * contract.evaluation.contact_share:g}%",
        facts=facts,
        charts=charts.drawn(_charts(findings.drift, contract)),
    )


def _charts(drift: Drift, contract: Contract) -> list[Chart]:
    """Draw the watched columns that are farthest from the training in the last window."""
    if not drift.windows:
        return []
    reports = [{one["name"]: _far(one) for one in window.report["columns"]} for window in drift.windows]
    watched = [one["name"] for one in drift.windows[-1].report["columns"] if one["list"] == "watched"]
    farthest = sorted(watched, key=lambda name: -(reports[-1][name] or 0.0))[:_MOST_LINES]
    moments, columns = (
        [window.last for window in drift.windows],
        {name: [one[name] for one in reports] for name in farthest},
    )
    spoken = ", ".join(f"{name} {tables.figure(values[-1], 2)}" for name, values in columns.items())
    meaning = f"Distance of the farthest watched columns from the training, window by window; in the last {spoken}"
    return [(meaning, partial(charts.distances, moments, columns, contract.watch.ks))]


def _signals(monitoring: Monitoring) -> Table:
    head = (Cell("Signal"), Cell("What it looks at", mark="words"), Cell("State", mark="words"))
    return Table(head, tuple(_signal(name, text, monitoring.signals[name]) for name, text in _SIGNALS.items()))


def _signal(name: str, text: str, breached: bool | None) -> Row:
    word, mark = _STATES[breached]
    return Cell(name), Cell(text), Cell(word, mark=mark)


def _quality(quality: RowQuality) -> Table:
    others = ", ".join(quality.others)
    lines = (
        ("Decisions of this bundle in the period", quality.rows, ""),
        ("Decisions of other bundles", sum(quality.others.values()), others),
        ("Decisions that were delivered again", quality.repeated, "counted once"),
        ("Rows that break the contract", quality.broken, "judged as missing, or as values never seen"),
        ("Rows with another propensity than the bundle gives", quality.differing, "of those that keep to the contract"),
        ("Outcomes", quality.outcomes, ""),
        ("Outcomes that were delivered again", quality.repeated_outcomes, "counted once"),
        ("Outcomes without a decision here", quality.orphans, "not used"),
        ("Outcomes from before their decision", quality.too_early, "not used"),
    )
    head = (Cell("Of what arrived"), Cell("Rows"), Cell("Note", mark="words"))
    return Table(head, tuple((Cell(name), Cell(tables.count(rows)), Cell(note)) for name, rows, note in lines))


def _faults(quality: RowQuality) -> Table:
    return Table(
        (Cell("Column"), Cell("Expected", mark="words"), Cell("Rows that break it")),
        tuple(
            (
                Cell(fault.column),
                Cell(fault.expected),
                Cell(tables.count(fault.rows), f"of {tables.count(quality.rows)}"),
            )
            for fault in quality.faults
        ),
    )


def _gaps(quality: RowQuality) -> Table:
    """Tabulate the columns with missing or unseen values, now or in the reference."""
    return Table(
        (Cell("Column"), Cell("Missing"), Cell("Missing in the reference"), Cell("Unseen")),
        tuple(
            (Cell(c.column), *(Cell(tables.percent(share)) for share in (c.missing, c.usual, c.unseen)))
            for c in quality.columns
            if c.missing or c.usual or c.unseen
        ),
    )


def _distances(drift: Drift) -> list[tuple[str, str, Table]]:
    drift = drift.model_copy(update={"windows": drift.windows[-_MOST_WINDOWS:]})
    lists = [(title, note, _drift(drift, name)) for name, title, note in _LISTS]
    return [
        *lists,
        (
            "Propensities",
            "At the reference's offers, so that a change of policy does not show here.",
            _propensities(drift),
        ),
    ]


def _drift(drift: Drift, kind: str) -> Table:
    """Tabulate drift with one line per column of a list, and one cell per window."""
    names = [column["name"] for column in drift.windows[0].report["columns"] if column["list"] == kind]
    return Table(
        _windows(drift),
        tuple(
            (
                Cell(name),
                *(_distance(next(c for c in one.report["columns"] if c["name"] == name)) for one in drift.windows),
            )
            for name in names
        ),
    )


def _propensities(drift: Drift) -> Table:
    """Tabulate the propensities' distance, and how well the order of importance is kept, with one cell per window."""
    order = [one.report["attribution"] for one in drift.windows]
    lines = (
        (Cell("propensity"), *(_distance(one.report["score"]) for one in drift.windows)),
        (Cell("order of importance", "NDCG, 1 is the same"), *(Cell(tables.figure(value, 2)) for value in order)),
    )
    return Table(_windows(drift), lines)


def _windows(drift: Drift) -> Row:
    return (Cell("Column"), *(Cell(f"{window.last:%m-%d}", f"{window.last:%H:%M}") for window in drift.windows))


def _far(measured: Mapping[str, Any]) -> float | None:
    """Read a distance, in [0, 1]: KS of numbers and propensities, Cramér's V of categories."""
    far: float | None = measured["ks"] if measured.get("ks") is not None else measured.get("cramers_v")
    return far


def _distance(measured: Mapping[str, Any]) -> Cell:
    value = _far(measured)
    sign = "**" if measured["breached"] else "*" if measured["suspect"] else ""
    return Cell(
        f"{tables.figure(value, 2)}{sign}", shade=float(np.interp(value or 0.0, [0.03, 0.1, 0.3, 1], [0, 0.3, 0.6, 1]))
    )


def _labels(labels: Labels) -> str:
    age = f"A label is mature {labels.matures_after_days:g} days after its decision. "
    if not labels.mature:
        return f"{age}None is mature yet ({tables.count(labels.immature)} are younger), so performance was not judged."
    mature, labelled, accepted, unlabelled, immature = (
        tables.count(n) for n in (labels.mature, labels.labelled, labels.accepted, labels.unlabelled, labels.immature)
    )
    return (
        f"{age}{mature} decisions are of that age; {labelled} of them have an outcome, {accepted} accepted, and "
        f"{unlabelled} ({tables.percent(labels.unlabelled / labels.mature)}) have none and count neither way. "
        f"{immature} are younger, and what is known of those is not used: who accepts says so first."
    )


def _figures(performance: Performance, contract: Contract) -> Table:
    columns = (
        tables.figure_names(contract),
        tables.scores(Cell("Live decisions", "mature labels", "model"), performance.scores),
        tables.scores(Cell("At the gate", "rows the model had not seen"), performance.at_the_gate),
    )
    head, *rows = zip(*columns, strict=True)
    return Table(head, tuple(rows))


def _surprises(performance: Performance) -> Table:
    head = ("Figure", "Observed", "Expected", "Distance", "p")
    lines = (("Acceptance", performance.rate), ("Log-loss", performance.log_loss))
    return Table(tuple(map(Cell, head)), tuple(_surprise(name, surprise) for name, surprise in lines))


def _surprise(name: str, surprise: Surprise) -> Row:
    values = (
        tables.figure(surprise.observed),
        tables.figure(surprise.expected),
        f"{surprise.z:+.1f}",
        f"{surprise.p:.2g}",
    )
    return Cell(name), *map(Cell, values)


def _curves(findings: Findings, evaluation: Evaluation, learnt: pd.DataFrame, contract: Contract) -> list[Plot]:
    """Draw the gate's curves for live decisions."""
    if findings.performance is None:
        return []
    live = evaluation.model_copy(update={"model": findings.performance.scores, "windows": (), "champion": None})
    curves = plots.curves(learnt.assign(window=""), live, contract.evaluation.contact_share)
    return [*curves, *plots.over_time(learnt, contract.evaluation.smallest_segment)]


def _per_day(volume: Volume) -> Plot:
    days = volume.days[-_MOST_DAYS:]
    rows = np.array([day.rows for day in days])

    def draw(figure: Figure) -> None:
        axes = drawing.timeline(figure, [day.day[5:] for day in days])
        axes.bar(range(len(rows)), rows, color=drawing.STYLES["propensity"]["color"], width=0.8)
        axes.axhline(volume.median, **drawing.CEILING)
        axes.set(ylabel="decisions", ylim=(0, None))

    values = ", ".join(f"{day.day} {day.rows}" for day in days)
    last = f" Shown are the last {_MOST_DAYS} days." if len(volume.days) > _MOST_DAYS else ""
    caption = f"Decisions of all bundles per day (UTC); dotted is the median. The first and last day may be cut.{last}"
    return Plot("Decisions per day", f"Decisions per day: {values}.", caption, drawing.svg("per-day", draw))


def _mean_propensity(drift: Drift) -> Plot:
    rates = [window.report["score"]["rate"] for window in drift.windows]
    mean, low, high = (np.array([rate[key] for rate in rates]) for key in ("rate", "low", "high"))

    def draw(figure: Figure) -> None:
        axes = drawing.timeline(figure, [f"{window.last:%m-%d}" for window in drift.windows])
        axes.vlines(range(len(mean)), low, high, color=drawing.STYLES["propensity"]["color"], linewidth=1)
        axes.plot(mean, **drawing.STYLES["propensity"], marker="o", markersize=3.5, label="window")
        axes.axhline(rates[0]["reference"], **drawing.CEILING, label="reference")
        axes.set(ylabel="mean propensity", ylim=(0, None))
        axes.legend(loc="best")

    values = ", ".join(f"{window.last:%Y-%m-%d} {rate:.1%}" for window, rate in zip(drift.windows, mean, strict=True))
    return Plot(
        "Mean propensity by window",
        f"Mean propensity by window: {values}; in the reference {rates[0]['reference']:.1%}.",
        "At the reference's offers. Upright lines are 95% intervals, dotted is the reference's mean.",
        drawing.svg("mean-propensity", draw),
    )
