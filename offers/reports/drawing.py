"""Draws figures in one style, as inline SVG that fits into a page."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

INK, GRID = "#1d2430", "#d8dce2"


STYLES: dict[str, dict[str, Any]] = {
    "propensity": {"color": "#1f77c9", "linestyle": "-", "linewidth": 2.0},
    "baseline": {"color": "#7d8590", "linestyle": "--", "linewidth": 1.4},
    "champion": {"color": "#1a9467", "linestyle": "-.", "linewidth": 1.6},
}


NAMES = {"propensity": "model", "baseline": "logistic baseline", "champion": "champion"}


_WINDOWS = LinearSegmentedColormap.from_list("windows", ["#9455d3", "#d23f7c", "#c97a12"])


CEILING: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.2}


RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "offers",
    "font.size": 8.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.3,
}


_SIZE = (4.5, 3.3)


_MOST_TICKS = 6


_LONGEST_LEGEND = 7


@dataclass(frozen=True)
class Plot:
    """A figure with its texts: `alt` is for readers who can't see it, and `caption` says what it shows."""

    title: str
    alt: str
    caption: str
    svg: str


def colours(count: int) -> list[str]:
    return [to_hex(_WINDOWS(place)) for place in np.linspace(0, 1, count)]


def legend(figure: Figure, axes: Axes, place: Literal["lower right", "upper right"], title: str | None = None) -> None:
    """Put the legend into a free corner, or below the axes if it is too long for a corner."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) <= _LONGEST_LEGEND:
        axes.legend(loc=place, title=title, alignment="left")
    else:
        figure.legend(handles, labels, loc="outside lower center", title=title, ncols=3)


def short(count: float) -> str:
    return f"{count:.0f}" if count < 1000 else f"{count / 1000:.1f}k"


def in_percent(*axes: Axis) -> None:
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def square(figure: Figure, across: str, up: str) -> Axes:
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02))
    in_percent(axes.xaxis, axes.yaxis)
    return axes


def timeline(figure: Figure, periods: Sequence[str]) -> Axes:
    axes = figure.add_subplot()
    step = -(-len(periods) // _MOST_TICKS)
    axes.set_xticks(range(0, len(periods), step), periods[::step])
    axes.set_xlim(-0.5, len(periods) - 0.5)
    return axes


def svg(name: str, draw: Callable[[Figure], None]) -> str:
    """Draw an SVG for use in a page: its ids are unique, and ink and grid have the page's colours."""
    with rc_context(RC):
        figure = Figure(figsize=_SIZE, layout="constrained", facecolor="none")
        draw(figure)
        for axes in figure.axes:
            axes.set_facecolor("none")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    markup = buffer.getvalue()
    markup = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", markup[markup.index("<svg") :])
    return markup.replace(INK, f"var(--ink, {INK})").replace(GRID, f"var(--grid, {GRID})")
