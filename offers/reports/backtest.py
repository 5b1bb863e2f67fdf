"""The picture of a backtest: quality against retrainings by policy, and quality, retrainings and alarms over time."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import get_args

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offers.backtest.baselines import Baseline
from offers.backtest.comparison import SPAN
from offers.backtest.results import ReplayResult, SummaryLine
from offers.files import os_errors
from offers.reports.drawing import GRID, INK, RC

_SIGNALS = ("data drift", "score drift", "performance")
_COLOURS = {
    "never": "#7d8590",
    "every month": "#c97a12",
    "on drift": "#9455d3",
    "two of three": "#d23f7c",
}
_SCHEDULE = "#1f77c9"


def draw(results: Sequence[ReplayResult], lines: Sequence[SummaryLine], path: Path) -> None:
    """Draw one label delay's results into a file, SVG or PNG by its name.

    Parameters
    ----------
    results, lines : of `offers.backtest.comparison.compare` and `summary`, of one delay
    """
    with rc_context(RC):
        figure = Figure(figsize=(10, 4.6), layout="constrained", facecolor="white")
        grid = figure.add_gridspec(3, 2, width_ratios=[1.6, 1], height_ratios=[5, 1.2, 1.2])
        replays = _shown(results)
        quality = figure.add_subplot(grid[0, 0])
        _quality(quality, replays)
        _changes(figure.add_subplot(grid[1, 0], sharex=quality), replays[-1])
        _alarms(figure.add_subplot(grid[2, 0], sharex=quality), replays[-1])
        _price(figure.add_subplot(grid[:, 1]), lines)
        buffer = BytesIO()
        kind = path.suffix.removeprefix(".") or "svg"
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())


def _shown(results: Sequence[ReplayResult]) -> list[ReplayResult]:
    """The three results to draw, at the first alignment: never, the most frequent schedule, two of three + layer."""
    first = [result for result in results if result.alignment == results[0].alignment]
    dense = max((r for r in first if _scheduled(r) and not r.learns), key=lambda result: len(result.retrained))
    never = next(result for result in first if result.policy == "never")
    return [never, dense, next(result for result in first if result.policy == "two of three + layer")]


def _quality(axes: Axes, shown: Sequence[ReplayResult]) -> None:
    for result in shown:
        rows = [SPAN * (n + 0.5) for n in range(len(result.over_time))]
        losses = [span.log_loss for span in result.over_time]
        axes.plot(rows, losses, color=_colour(result), linewidth=1.6, label=f"{result.policy}: {_count(result)}")
    axes.set(ylabel=f"log-loss by {SPAN:,} rows", ylim=(0, min(1.4, axes.get_ylim()[1])))
    axes.legend(loc="upper left")


def _changes(axes: Axes, result: ReplayResult) -> None:
    axes.eventplot(
        [result.refused, result.updated, result.retrained],
        lineoffsets=[0, 1, 2],
        linelengths=0.8,
        colors=[INK, GRID if not result.updated else "#e39bb9", _colour(result)],
    )
    names = [f"{len(result.refused)} refused", "updated", "retrained"]
    axes.set(yticks=[0, 1, 2], yticklabels=names, ylim=(-0.6, 2.6))
    axes.grid(visible=False)


def _alarms(axes: Axes, result: ReplayResult) -> None:
    places = [[alarm.at for alarm in result.alarms if name in alarm.signals] for name in _SIGNALS]
    axes.eventplot(places, lineoffsets=[2, 1, 0], linelengths=0.8, colors=INK, linewidths=0.8)
    axes.set(yticks=[2, 1, 0], yticklabels=_SIGNALS, ylim=(-0.6, 2.6), xlabel="rows since the first training")
    axes.grid(visible=False)


def _price(axes: Axes, lines: Sequence[SummaryLine]) -> None:
    """Plot pooled AUC against the number of retrainings; the schedules form the curve that others have to beat."""
    for learns, style, word in ((False, "--", ""), (True, "-", " + layer")):
        group = [line for line in lines if line.learns == learns and line.policy not in get_args(Baseline)]
        curve = sorted((line for line in group if _scheduled(line)), key=lambda line: line.retrainings)
        x, y = [line.retrainings for line in curve], [line.auc for line in curve]
        axes.plot(x, y, style, color=_SCHEDULE, linewidth=1.2, marker="o", markersize=4, label=f"schedules{word}")
        for line in group:
            _mark(axes, line)
    for line in (line for line in lines if line.policy in get_args(Baseline) and line.policy != "random"):
        axes.axhline(line.auc, color=INK, linewidth=0.8, linestyle=":")
        ahead = ", which sees the future" if line.policy.startswith("oracle") else ""
        axes.annotate(
            line.policy + ahead, (0.99, line.auc), xycoords=("axes fraction", "data"), ha="right", va="bottom", size=7
        )
    axes.set(xlabel="retrainings", ylabel="AUC, all rows pooled")
    axes.legend(loc="lower right")


def _mark(axes: Axes, line: SummaryLine) -> None:
    colour, face = _colour(line), _colour(line) if line.learns else "white"
    axes.vlines(line.retrainings, line.lowest_auc, line.highest_auc, color=colour, linewidth=0.8)
    if line.schedule in ("every month", "on drift", "two of three"):
        style = {"marker": "s", "linestyle": "none", "markersize": 6, "markeredgecolor": colour}
        axes.plot([line.retrainings], [line.auc], color=face, label=line.policy, **style)  # type: ignore[arg-type]


def _scheduled(entry: ReplayResult | SummaryLine) -> bool:
    return entry.schedule == "never" or entry.schedule.endswith("rows")


def _colour(entry: ReplayResult | SummaryLine) -> str:
    return _COLOURS.get(entry.schedule, _SCHEDULE)


def _count(result: ReplayResult) -> str:
    refused = f", {len(result.refused)} refused" if result.refused else ""
    return f"{len(result.retrained)} retrainings{refused}, AUC {result.pooled.auc or float('nan'):.3f}"
