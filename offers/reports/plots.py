"""The report's figures as inline SVG; the same predictions give the same bytes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from offers.drift.significance import wilson_interval
from offers.evaluation import metrics
from offers.evaluation.figures import Evaluation
from offers.reports.drawing import (
    CEILING,
    INK,
    NAMES,
    STYLES,
    Plot,
    colours,
    in_percent,
    legend,
    short,
    square,
    svg,
    timeline,
)

POINTS = 200
SHARE_TICKS = (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def curves(predictions: pd.DataFrame, evaluation: Evaluation, share: float) -> list[Plot]:
    """Draw ranking, calibration, gains and scores of rows that the model had not seen.

    Parameters
    ----------
    predictions : the table that `offers.evaluation.evaluate.evaluate` returns
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
    parts = _telling(predictions, smallest)
    return [_auc_by_period(parts), _rate_by_period(parts)] if len(parts) > 1 else []


def left_out(predictions: pd.DataFrame, smallest: int) -> int:
    """Count the periods that `over_time` leaves out."""
    return int(predictions["period"].nunique()) - len(_telling(predictions, smallest))


def _telling(predictions: pd.DataFrame, smallest: int) -> list[tuple[str, pd.DataFrame]]:
    """List the periods with at least `smallest` rows and both outcomes."""
    return [
        (str(period), part)
        for period, part in predictions.groupby("period")
        if len(part) >= smallest and part["label"].nunique() == 2
    ]


def _roc(predictions: pd.DataFrame, evaluation: Evaluation) -> Plot:
    scores = {"propensity": evaluation.model, "baseline": evaluation.baseline}
    if evaluation.champion is not None:
        scores["champion"] = evaluation.champion.scores
    lines = [
        (f"{NAMES[name]} {scores[name]['auc'].value:.3f}", _roc_points(predictions, name), STYLES[name])
        for name in _scorers(predictions)
    ]
    windows = [window for window in evaluation.windows if window.model.figures]
    for window, colour in zip(windows, colours(len(windows)), strict=True):
        points = _roc_points(predictions[predictions["window"] == window.name], "propensity")
        lines.append((f"{window.name} {window.model['auc'].value:.3f}", points, {"color": colour, "linewidth": 1.1}))

    def draw(figure: Figure) -> None:
        axes = square(figure, "refusals contacted (false positive rate)", "acceptances reached")
        axes.plot([0, 1], [0, 1], **CEILING)
        for number, (label, points, style) in enumerate(lines):
            axes.plot(*points, **style, label=label, zorder=3 - number / len(lines))
        legend(figure, axes, "lower right", title="AUC")

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
        top.vlines(mean, *wilson_interval(rate * rows, rows), color=STYLES["propensity"]["color"], linewidth=1)
        for name, (x, y, _) in bins.items():
            top.plot(x, y, **STYLES[name], marker="o", markersize=3.5, label=NAMES[name])
        top.set(ylabel="observed rate", xlim=(0, 1), ylim=(0, 1.02))
        top.legend(loc="upper left")
        in_percent(top.xaxis, top.yaxis)
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
        axes.text(place, np.sqrt(count), short(count), ha="center", va="bottom", fontsize=6.5)
    axes.set(ylim=(0, 1.6 * np.sqrt(rows.max())), yticks=[])
    axes.set_ylabel("rows", rotation=0, ha="right", va="center")
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


def _gains(predictions: pd.DataFrame, evaluation: Evaluation, share: float) -> Plot:
    labels, model = predictions["label"].to_numpy(), evaluation.model
    best, reached = f"{100 * share:g}%", model["recall"].value

    def draw(figure: Figure) -> None:
        axes = square(figure, "customers contacted, best first", "acceptances reached")
        axes.plot([0, model.positive_rate, 1], [0, 1, 1], **CEILING, label="perfect model")
        for name in _scorers(predictions):
            axes.plot(*_gain_points(labels, predictions[name].to_numpy()), **STYLES[name], label=NAMES[name])
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.6, label="at random")
        axes.axvline(share, color=INK, linewidth=0.6)
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
        for (name, share), colour in zip(shares.items(), colours(len(shares)), strict=True):
            axes.stairs(share, edges, color=colour, linewidth=1.5, label=name)
        axes.set_yticks([tick for tick in SHARE_TICKS if tick <= top])
        in_percent(axes.xaxis, axes.yaxis)
        legend(figure, axes, "upper right")

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
                [_auc(part, name) for _, part in parts], **STYLES[name], marker="o", markersize=3, label=NAMES[name]
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
    rows = np.array([len(part) for _, part in parts])
    low, high = wilson_interval(observed * rows, rows)

    def draw(figure: Figure) -> None:
        axes = timeline(figure, [period for period, _ in parts])
        axes.vlines(range(len(parts)), low, high, color=INK, linewidth=0.8)
        axes.plot(observed, "s", color=INK, markersize=3.5, label="observed rate, 95% interval")
        axes.plot(expected, **STYLES["propensity"], marker="o", markersize=3, label="mean propensity")
        axes.set(ylabel="acceptance", ylim=(0, None))
        in_percent(axes.yaxis)
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
    places = np.unique(np.linspace(0, len(false_positive) - 1, POINTS).astype(int))
    return false_positive[places], true_positive[places]


def _gain_points(labels: np.ndarray, propensity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = np.unique(np.linspace(0, len(labels), POINTS).astype(int))
    return places / len(labels), metrics.gains(labels, propensity, places)
