"""The results of an experiment, as tables and sentences for a terminal, and as one HTML page."""

import math
from collections.abc import Iterator
from functools import partial

from offers.decisions.period import Period
from offers.experiments.comparison import FEWEST, ArmResult, Comparison, Guardrail, Interval
from offers.experiments.experiment import Experiment
from offers.experiments.members import Members
from offers.reports import charts
from offers.reports.charts import Chart, drawn
from offers.reports.tables import Cell, Row, Table, count, figure, percent
from offers.reports.training import HTML

_VERDICTS = {
    "better": ("earns more", "passed"),
    "worse": ("earns less", "failed"),
    "open": ("not told apart yet", "idle"),
    "too few": ("too few", "idle"),
}
EARNED_MORE = "more than the control, EUR per customer"
_PASSAGES = {"passes": "passed", "fails": "failed", "too few": "idle"}


def headline(comparison: Comparison) -> str:
    """Say in one sentence what the experiment has proved."""
    if comparison.mismatched:
        return "Customers are missing from an arm: nothing below can be believed until it is known why."
    verdicts = [f"{arm.name}: {_VERDICTS[arm.verdict][0]}{_broken(arm)}" for arm in comparison.arms]
    return f"{'; '.join(verdicts)}."


def outcome_table(comparison: Comparison, shares: dict[str, float]) -> Table:
    """Tabulate each arm's customers, conversion and EUR, and the differences to the control with their intervals."""
    words = ("customers", "known", "conversion", "EUR per customer", "lift", "EUR more", "verdict")
    head = (Cell("arm"), *map(Cell, words))
    customers, conversion, earned = comparison.control
    names, none = list(shares), Cell(figure(None))
    control = _start(names[0], comparison, shares, customers, conversion, earned)
    return Table(head, ((*control, none, none, none), *(_row(arm, comparison, shares) for arm in comparison.arms)))


def guardrail_table(comparison: Comparison) -> Table:
    """Tabulate the figures that no arm may worsen."""
    head = tuple(map(Cell, ("arm", "guardrail", "arm's", "control's", "verdict")))
    return Table(head, tuple(_rail(arm.name, rail) for arm in comparison.arms for rail in arm.guardrails))


def notes(members: Members, comparison: Comparison) -> Iterator[str]:
    """Yield notes that a reader of the figures must know."""
    p_value = f"p = {comparison.mismatch:.2g}"
    if comparison.mismatched:
        yield f"Customers do not fall to the arms by their shares ({p_value})."
    else:
        yield f"Customers fall to the arms by their shares ({p_value})."
    yield "Intervals hold at every look: whoever looks each day and stops when one leaves 0 errs in 5 % at most."
    if any(arm.spared for arm in comparison.arms):
        spared = ", ".join(f"{arm.name} {percent(arm.spared)}" for arm in comparison.arms)
        yield f"EUR are adjusted by the propensity at the first decision (CUPED), which spares variance: {spared}."
    if not members.labels.impressions:
        yield "Nobody told what was presented: each first place counts as presented."
    if members.moved:
        moved = count(members.moved)
        yield f"{moved} customers were in two arms and are left out: begin the period after a share grew."
    if members.keys > 1:
        yield (
            f"Customers stand under {members.keys} keys: under each they have another pseudonym, count again and may be"
            " in another arm. Begin the period after the key changed."
        )
    if members.erased:
        words = "decision is" if members.erased == 1 else "decisions are"
        yield f"{count(members.erased)} {words} erased, and left out."
    if any(arm.verdict == "too few" for arm in comparison.arms):
        yield f"Below {FEWEST} customers of an arm whose outcomes are known nothing is concluded."


def experiment_report(experiment: Experiment, members: Members, comparison: Comparison, period: Period) -> str:
    """Write the report of an experiment as one HTML page that loads nothing."""
    good = not comparison.mismatched and not any(map(_broken, comparison.arms))
    return HTML.get_template("experiment.html").render(
        experiment=experiment,
        contract=members.contract,
        period=period,
        decisions=members.decisions,
        customers=len(members.customers),
        good=good,
        headline=headline(comparison),
        outcomes=outcome_table(comparison, experiment.shares),
        guardrails=guardrail_table(comparison),
        notes=list(notes(members, comparison)),
        charts=drawn(_earned(comparison)),
    )


def earned_more(comparison: Comparison) -> list[tuple[str, Interval]]:
    """List what is known of what arms earned more than the control, in EUR per customer."""
    return [(arm.name, arm.earned_more) for arm in comparison.arms if not math.isnan(arm.earned_more.value)]


def _earned(comparison: Comparison) -> list[Chart]:
    rows = earned_more(comparison)
    spoken = "; ".join(f"{name} {one.value:+.2f}, {one.low:+.2f} to {one.high:+.2f}" for name, one in rows)
    return [(f"{EARNED_MORE}: {spoken}", partial(charts.intervals, rows, EARNED_MORE))] if rows else []


def _broken(arm: ArmResult) -> str:
    names = [rail.name for rail in arm.guardrails if rail.verdict == "fails"]
    return f", and worsens {', '.join(names)}" if names else ""


def _start(
    name: str, comparison: Comparison, shares: dict[str, float], known: int, conversion: float, earned: float
) -> Row:
    customers = Cell(count(comparison.counts[name]), f"{shares[name]:.0%} asked")
    return Cell(name), customers, Cell(count(known)), Cell(percent(conversion)), Cell(figure(earned, 2))


def _row(arm: ArmResult, comparison: Comparison, shares: dict[str, float]) -> Row:
    text, mark = _VERDICTS[arm.verdict]
    start = _start(arm.name, comparison, shares, arm.customers, arm.conversion, arm.earned)
    return (*start, _interval(arm.lift, 100, 1, " %"), _interval(arm.earned_more, 1, 2), Cell(text, mark=mark))


def _interval(interval: Interval, factor: float, digits: int, unit: str = "") -> Cell:
    if math.isnan(interval.value):
        return Cell(figure(None))
    value, low, high = (f"{factor * one:+.{digits}f}" for one in (interval.value, interval.low, interval.high))
    return Cell(f"{value}{unit}", f"{low} to {high}")


def _rail(arm: str, rail: Guardrail) -> Row:
    figures = (rail.arm, rail.control)
    cells = [
        Cell(f"{figure(one, 1)} {rail.unit}" if rail.unit and not math.isnan(one) else percent(one)) for one in figures
    ]
    return Cell(arm), Cell(rail.name), *cells, Cell(rail.verdict, mark=_PASSAGES[rail.verdict])
