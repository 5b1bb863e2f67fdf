"""The report's figures as inline SVG: same predictions, same bytes."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import roc_auc_score, roc_curve

from offers.evaluation import metrics
from offers.evaluation.figures import Evaluation

_INK, _GRID = "#1d2430", "#d8dce2"
STYLES: dict[str, dict[str, Any]] = {
    "propensity": {"color": "#1f77c9", "linestyle": "-", "linewidth": 2.0},
    "baseline": {"color": "#7d8590", "linestyle": "--", "linewidth": 1.4},
    "champion": {"color": "#1a9467", "linestyle": "-.", "linewidth": 1.6},
}
_NAMES = {"propensity": "model", "baseline": "logistic baseline", "champion": "champion"}
_WINDOWS = LinearSegmentedColormap.from_list("windows", ["#9455d3", "#d23f7c", "#c97a12"])
CEILING: dict[str, Any] = {"color": _INK, "linestyle": ":", "linewidth": 1.2}
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "offers",
    "font.size": 8.5,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.3,
}
_POINTS = 200
_SIZE = (4.5, 3.3)
_MOST_TICKS = 6
_LONGEST_LEGEND = 7
_SHARE_TICKS = (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Plot:
    """A figure and its words: `alt` for who can't see it, `caption` for what to read in it."""

    title: str
    alt: str
    caption: str
    svg: str


def curves(predictions: pd.DataFrame, evaluation: Evaluation, share: float) -> list[Plot]:
    """Draw ranking, calibration, gains and scores of rows that the model had not seen.

    Parameters
    ----------
    predictions : what `offers.evaluation.evaluate.evaluate` returns
    share : share of the rows that can be contacted

    Returns
    -------
    list of Plot
        empty where the rows hold one outcome only
    """
    if not evaluation.model.figures:
        return []
    return [
        _roc(predictions, evaluation),
        _reliability(predictions, evaluation),
        _gains(predictions, evaluation, share),
        _scores(predictions),
    ]


def over_time(predictions: pd.DataFrame, smallest: int) -> list[Plot]:
    """Draw quality by period; empty where fewer than two periods have `smallest` rows and both outcomes."""
    parts = [
        (str(period), part)
        for period, part in predictions.groupby("period")
        if len(part) >= smallest and part["label"].nunique() == 2
    ]
    return [_auc_by_period(parts), _rate_by_period(parts)] if len(parts) > 1 else []


def _roc(predictions: pd.DataFrame, evaluation: Evaluation) -> Plot:
    scores = {"propensity": evaluation.model, "baseline": evaluation.baseline}
    if evaluation.champion is not None:
        scores["champion"] = evaluation.champion.scores
    lines = [
        (f"{_NAMES[name]} {scores[name]['auc'].value:.3f}", _roc_points(predictions, name), STYLES[name])
        for name in _scorers(predictions)
    ]
    windows = [window for window in evaluation.windows if window.model.figures]
    for window, colour in zip(windows, _colours(len(windows)), strict=True):
        points = _roc_points(predictions[predictions["window"] == window.name], "propensity")
        lines.append((f"{window.name} {window.model['auc'].value:.3f}", points, {"color": colour, "linewidth": 1.1}))

    def draw(figure: Figure) -> None:
        axes = _square(figure, "refusals contacted (false positive rate)", "acceptances reached")
        axes.plot([0, 1], [0, 1], **CEILING)
        for number, (label, points, style) in enumerate(lines):
            axes.plot(*points, **style, label=label, zorder=3 - number / len(lines))
        _legend(figure, axes, "lower right", title="AUC")

    caption = "The further above the dotted diagonal, the better acceptances are ranked above refusals."
    if windows:
        caption += (
            " Where all rows together rank better than the rows of any one window, the model profits from knowing when "
            "acceptance is high, not only from knowing whose."
        )
    alt = f"ROC curves with AUC: {', '.join(label for label, _, _ in lines)}."
    return Plot("Ranking (ROC)", alt, caption, svg("roc", draw))


def _reliability(predictions: pd.DataFrame, evaluation: Evaluation) -> Plot:
    labels = predictions["label"].to_numpy()
    bins = {name: metrics.reliability(labels, predictions[name].to_numpy()).T for name in _scorers(predictions)}
    mean, rate, rows = bins["propensity"]

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        top.plot([0, 1], [0, 1], **CEILING, label="perfect")
        top.vlines(mean, *_wilson(rate, rows), color=STYLES["propensity"]["color"], linewidth=1)
        for name, (x, y, _) in bins.items():
            top.plot(x, y, **STYLES[name], marker="o", markersize=3.5, label=_NAMES[name])
        top.set(ylabel="observed rate", xlim=(0, 1), ylim=(0, 1.02))
        top.legend(loc="upper left")
        _in_percent(top.xaxis, top.yaxis)
        _row_bars(bottom, np.floor(mean * 10) / 10 + 0.05, rows)
        bottom.set_xlabel("propensity")

    points = (f"{x:.0%} expected, {y:.0%} observed in {n:,.0f} rows" for x, y, n in zip(mean, rate, rows, strict=True))
    return Plot(
        "Calibration (reliability)",
        f"Reliability of the model: {'; '.join(points)}.",
        "On the dotted line a propensity is the rate that is observed, and can be multiplied by money. The upright "
        "lines are 95% Wilson intervals, the bars the rows in each bin (square-root scale). "
        f"Mean gap (ECE): {evaluation.model['ece'].value:.3f}.",
        svg("reliability", draw),
    )


def _row_bars(axes: Axes, places: np.ndarray, rows: np.ndarray) -> None:
    axes.bar(places, np.sqrt(rows), width=0.09, color=STYLES["propensity"]["color"], alpha=0.35)
    for place, count in zip(places, rows, strict=True):
        axes.text(place, np.sqrt(count), _short(count), ha="center", va="bottom", fontsize=6.5)
    axes.set(ylim=(0, 1.6 * np.sqrt(rows.max())), yticks=[])
    axes.set_ylabel("rows", rotation=0, ha="right", va="center")
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


def _gains(predictions: pd.DataFrame, evaluation: Evaluation, share: float) -> Plot:
    labels, model = predictions["label"].to_numpy(), evaluation.model
    best, reached = f"{100 * share:g}%", model["recall"].value

    def draw(figure: Figure) -> None:
        axes = _square(figure, "customers contacted, best first", "acceptances reached")
        axes.plot([0, model.positive_rate, 1], [0, 1, 1], **CEILING, label="perfect model")
        for name in _scorers(predictions):
            axes.plot(*_gain_points(labels, predictions[name].to_numpy()), **STYLES[name], label=_NAMES[name])
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.6, label="at random")
        axes.axvline(share, color=_INK, linewidth=0.6)
        axes.plot([share], [reached], "o", color=STYLES["propensity"]["color"], markersize=5)
        axes.legend(loc="lower right")

    return Plot(
        "Gains and lift",
        f"Gains: the best {best} hold {reached:.1%} of the acceptances; "
        f"with a perfect model {share * model.lift_ceiling:.1%}.",
        f"The best {best} of the customers hold {reached:.1%} of the acceptances: lift {model['lift'].value:.2f}. "
        f"No model can be above the dotted line, which allows a lift of {model.lift_ceiling:.2f} there.",
        svg("gains", draw),
    )


def _scores(predictions: pd.DataFrame) -> Plot:
    names = [name for name in predictions["window"].unique() if name]
    parts = {name: predictions.loc[predictions["window"] == name, "propensity"] for name in names} or {
        name: predictions.loc[predictions["label"] == label, "propensity"]
        for name, label in (("accepted", 1), ("refused", 0))
    }
    edges = np.linspace(0, 1, 21)
    shares = {name: np.histogram(part, edges)[0] / len(part) for name, part in parts.items()}
    top = 1.08 * max(share.max() for share in shares.values())

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set(xlabel="propensity", ylabel="share of rows (square-root scale)", xlim=(0, 1), ylim=(0, top))
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        for (name, share), colour in zip(shares.items(), _colours(len(shares)), strict=True):
            axes.stairs(share, edges, color=colour, linewidth=1.5, label=name)
        axes.set_yticks([tick for tick in _SHARE_TICKS if tick <= top])
        _in_percent(axes.xaxis, axes.yaxis)
        _legend(figure, axes, "upper right")

    means = ", ".join(f"{name} {part.mean():.1%}" for name, part in parts.items())
    reading = (
        "Where the curves lie apart the level of acceptance has moved, and a threshold set on one window contacts "
        "another share of the next."
        if names
        else "The further the two outcomes lie apart, the easier the ranking."
    )
    return Plot(
        f"Scores {'by window' if names else 'by outcome'}",
        f"Distribution of propensities; means: {means}.",
        f"Mean propensity: {means}. {reading}",
        svg("scores", draw),
    )


def _auc_by_period(parts: Sequence[tuple[str, pd.DataFrame]]) -> Plot:
    def draw(figure: Figure) -> None:
        axes = timeline(figure, [period for period, _ in parts])
        axes.axhline(0.5, **CEILING)
        for name in _scorers(parts[0][1]):
            axes.plot(
                [_auc(part, name) for _, part in parts], **STYLES[name], marker="o", markersize=3, label=_NAMES[name]
            )
        axes.set_ylabel("AUC within the month")
        axes.legend(loc="best")

    values = ", ".join(f"{period} {_auc(part, 'propensity'):.2f}" for period, part in parts)
    return Plot(
        "Ranking by month",
        f"AUC of the model by month: {values}.",
        "Within one month the level of acceptance can't help, so this is how well customers are told apart. "
        "The dotted line is chance; months with few rows swing by several hundredths.",
        svg("auc-by-month", draw),
    )


def _rate_by_period(parts: Sequence[tuple[str, pd.DataFrame]]) -> Plot:
    observed = np.array([part["label"].mean() for _, part in parts])
    expected = [part["propensity"].mean() for _, part in parts]
    low, high = _wilson(observed, np.array([len(part) for _, part in parts]))

    def draw(figure: Figure) -> None:
        axes = timeline(figure, [period for period, _ in parts])
        axes.vlines(range(len(parts)), low, high, color=_INK, linewidth=0.8)
        axes.plot(observed, "s", color=_INK, markersize=3.5, label="observed rate, 95% interval")
        axes.plot(expected, **STYLES["propensity"], marker="o", markersize=3, label="mean propensity")
        axes.set(ylabel="acceptance", ylim=(0, None))
        _in_percent(axes.yaxis)
        axes.legend(loc="best")

    values = ", ".join(
        f"{period} {y:.0%} for {x:.0%}" for (period, _), x, y in zip(parts, expected, observed, strict=True)
    )
    return Plot(
        "Calibration by month",
        f"Observed rate for mean propensity by month: {values}.",
        "Where the line leaves the marks, propensities were too high or too low in that month: the price of learning "
        "from outcomes that are already past.",
        svg("rate-by-month", draw),
    )


def _scorers(predictions: pd.DataFrame) -> list[str]:
    return [name for name in STYLES if name in predictions]


def _auc(part: pd.DataFrame, name: str) -> float:
    return float(roc_auc_score(part["label"], part[name]))


def _roc_points(part: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    false_positive, true_positive, _ = roc_curve(part["label"], part[name])
    kept = np.unique(np.linspace(0, len(false_positive) - 1, _POINTS).astype(int))
    return false_positive[kept], true_positive[kept]


def _gain_points(labels: np.ndarray, propensity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reached = np.concatenate([[0], np.cumsum(labels[np.argsort(-propensity, kind="stable")])])
    kept = np.unique(np.linspace(0, len(labels), _POINTS).astype(int))
    return kept / len(labels), reached[kept] / reached[-1]


def _wilson(rate: np.ndarray, rows: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a share (Wilson 1927)."""
    middle = (rate + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(rate * (1 - rate) / rows + z**2 / (4 * rows**2))
    return middle - half, middle + half


def _colours(count: int) -> list[str]:
    return [to_hex(_WINDOWS(place)) for place in np.linspace(0, 1, count)]


def _legend(figure: Figure, axes: Axes, place: Literal["lower right", "upper right"], title: str | None = None) -> None:
    """Put the legend into a free corner, or below the axes where it is too long for one."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) <= _LONGEST_LEGEND:
        axes.legend(loc=place, title=title, alignment="left")
    else:
        figure.legend(handles, labels, loc="outside lower center", title=title, ncols=3)


def _short(count: float) -> str:
    return f"{count:.0f}" if count < 1000 else f"{count / 1000:.1f}k"


def _in_percent(*axes: Axis) -> None:
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _square(figure: Figure, across: str, up: str) -> Axes:
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02))
    _in_percent(axes.xaxis, axes.yaxis)
    return axes


def timeline(figure: Figure, periods: Sequence[str]) -> Axes:
    axes = figure.add_subplot()
    step = -(-len(periods) // _MOST_TICKS)
    axes.set_xticks(range(0, len(periods), step), periods[::step])
    axes.set_xlim(-0.5, len(periods) - 0.5)
    return axes


def svg(name: str, draw: Callable[[Figure], None]) -> str:
    """Draw, and make the SVG fit to stand in a page: ids of its own, ink and grid in the page's colours."""
    with rc_context(_RC):
        figure = Figure(figsize=_SIZE, layout="constrained", facecolor="none")
        draw(figure)
        for axes in figure.axes:
            axes.set_facecolor("none")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawn = buffer.getvalue()
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", drawn[drawn.index("<svg") :])
    return drawn.replace(_INK, f"var(--ink, {_INK})").replace(_GRID, f"var(--grid, {_GRID})")
