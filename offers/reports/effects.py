"""Draws the direction of effects: the propensity at values of a column, above the share of rows that have them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from offers.contract.values import shown_number
from offers.evaluation.figures import Dependence
from offers.reports.drawing import INK, STYLES, Plot, in_percent, svg

_FEW = 0.005
_LONGEST_WORD = 14
_UPRIGHT_WORDS = 5


def effects(dependences: Sequence[Dependence]) -> list[Plot]:
    """Draw each dependence; all share one scale of the propensity, so that effects can be compared by eye."""
    highest = max((max(one.propensity) for one in dependences), default=0.0)
    return [_effect(one, number, 1.08 * highest) for number, one in enumerate(dependences)]


def _effect(dependence: Dependence, number: int, top: float) -> Plot:
    colour = STYLES["propensity"]["color"]
    values, shares = np.array(dependence.propensity), np.array(dependence.share)
    places = np.array(dependence.numbers) if dependence.numbers else np.arange(len(values), dtype=float)
    dense = shares >= _FEW

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        if dependence.numbers:
            upper.plot(places, values, color=colour, linewidth=1.4)
        upper.plot(places[dense], values[dense], "o", color=colour, markersize=4)
        upper.plot(places[~dense], values[~dense], "o", color=colour, markersize=4, fillstyle="none")
        upper.set(ylabel="mean propensity", ylim=(0, top))
        in_percent(upper.yaxis)
        width = 0.8 * np.diff(places).min(initial=np.inf) if len(places) > 1 else 0.8
        lower.bar(places, np.sqrt(shares), width=width, color=colour, alpha=0.35)
        lower.set(ylim=(0, 1.1 * np.sqrt(shares.max())), yticks=[])
        lower.set_ylabel("rows", rotation=0, ha="right", va="center", color=INK)
        lower.grid(visible=False)
        lower.spines["left"].set_visible(False)
        if dependence.numbers:
            lower.xaxis.set_major_locator(MaxNLocator(6))
        else:
            slope = 0 if len(places) <= _UPRIGHT_WORDS else 40
            words = [
                word if len(word) <= _LONGEST_WORD else f"{word[: _LONGEST_WORD - 1]}…" for word in dependence.words
            ]
            lower.set_xticks(places, words, rotation=slope, ha="right" if slope else "center")

    names = dependence.words or [shown_number(float(f"{value:.5g}")) for value in dependence.numbers]
    told = ", ".join(f"{name} {value:.1%}" for name, value in zip(names, values, strict=True))
    return Plot(
        dependence.column,
        f"Mean propensity by {dependence.column}: {told}.",
        _caption(dependence, names),
        svg(f"effect-{number}", draw),
    )


def _caption(dependence: Dependence, names: Sequence[str]) -> str:
    values = dependence.propensity
    low, high = int(np.argmin(values)), int(np.argmax(values))
    said = [f"Lowest at {names[low]} ({values[low]:.1%}), highest at {names[high]} ({values[high]:.1%})."]
    if dependence.missing is not None:
        said.append(f"Without a value, in {dependence.missing_share:.1%} of the rows: {dependence.missing:.1%}.")
    return " ".join(said)
