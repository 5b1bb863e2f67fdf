"""Charts that people can look into, drawn by Plotly for the pages of `offers app` and for HTML reports alike."""

import html
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING

from markupsafe import Markup

from offers.evaluation.figures import Evaluation

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from offers.experiments.comparison import Interval
    from offers.experiments.off_policy import Difference

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The colours of Okabe and Ito (2008), which colour-blind people tell apart; kinds of line and mark follow them."""
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up")
UP, DOWN, PLAIN = COLOURS[0], COLOURS[1], "#808080"
_GRID = "rgba(128,128,128,0.25)"
_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}

REFERENCE = {"line_dash": "dot", "line_color": PLAIN, "annotation_position": "bottom left"}
"""A line of reference; its words stand at the left, as the newest windows are at the right."""

Chart = tuple[str, Callable[[], "Figure"]]
"""What a chart says, for those who hear it, and what makes it where Plotly is installed."""


def label(text: object, most: int = 48) -> str:
    """Escape a text for Plotly, which takes labels for HTML, and cut it to a length."""
    words = " ".join(str(text).split())
    return html.escape(words[: most - 1] + "…" if len(words) > most else words, quote=False)


def line_style(place: int) -> dict[str, str]:
    """Give the line of a place a colour and a kind of its own, so that neither alone has to tell it apart."""
    return {"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place % len(DASHES)]}


def intervals(rows: "Sequence[tuple[str, Interval | Difference]]", title: str) -> "Figure":
    """Draw estimates with their intervals, beside zero.

    Parameters
    ----------
    title : says what is estimated, with its unit
    """
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Scatter(
            x=[one.value for _, one in rows],
            y=[label(name) for name, _ in rows],
            mode="markers",
            marker={"color": UP, "size": 10, "symbol": "diamond"},
            error_x={
                "array": [one.high - one.value for _, one in rows],
                "arrayminus": [one.value - one.low for _, one in rows],
                "color": UP,
                "thickness": 2,
            },
            name="difference",
        )
    )
    figure.add_vline(0, line_dash="dot", line_color=PLAIN)
    figure.update_xaxes(title=title)
    figure.update_yaxes(autorange="reversed")
    return figure


def prices(names: Sequence[str], units: Sequence[str], price: Sequence[float], limit: Sequence[float]) -> "Figure":
    """Draw what the last unit of each limit is worth, in EUR; a floor, whose limit is negative, costs."""
    import plotly.graph_objects as go

    words = [label(f"{name}, per {unit}") for name, unit in zip(names, units, strict=True)]
    colours = [DOWN if one < 0 else UP for one in limit]
    bars = go.Bar(
        x=price, y=words, orientation="h", marker_color=colours, texttemplate="%{x:,.2f} EUR", name="price"
    )  # fmt: skip
    figure = go.Figure(bars)
    figure.update_xaxes(title="price of the last unit, EUR")
    figure.update_yaxes(autorange="reversed")
    return figure


def distances(
    moments: Sequence[datetime], columns: Mapping[str, Sequence[float | None]], suspect: float | None
) -> "Figure":
    """Draw how far columns are from the training, window by window.

    Parameters
    ----------
    columns : by name the distance in each window, in [0, 1]
    suspect : KS distance from which the contract calls a number suspect
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for place, (name, values) in enumerate(columns.items()):
        figure.add_scatter(x=moments, y=values, name=label(name), mode="lines+markers", line=line_style(place))
    if suspect is not None:
        figure.add_hline(suspect, annotation_text="KS that is suspect", **REFERENCE)
    figure.update_yaxes(title="distance from the training, 0 to 1", rangemode="tozero")
    figure.update_xaxes(title="time, UTC")
    figure.update_layout(legend=_ABOVE)
    return figure


def windows(evaluation: Evaluation) -> "Figure":
    """Draw the AUC of model and baseline in each window, with its interval."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for place, name in enumerate(("model", "baseline")):
        told = [(one.name, getattr(one, name)["auc"]) for one in evaluation.windows if getattr(one, name).figures]
        figure.add_scatter(
            x=[label(window) for window, _ in told],
            y=[auc.value for _, auc in told],
            error_y={
                "array": [None if auc.high is None else auc.high - auc.value for _, auc in told],
                "arrayminus": [None if auc.low is None else auc.value - auc.low for _, auc in told],
            },
            mode="markers",
            name=name,
            marker={"color": COLOURS[place], "symbol": SYMBOLS[place], "size": 10},
        )
    figure.update_yaxes(title="AUC, 0 to 1")
    figure.update_layout(legend=_ABOVE)
    return figure


def calibration(evaluation: Evaluation) -> "Figure":
    """Draw what the propensities promised beside what was observed: a point for each window and each group."""
    import plotly.graph_objects as go

    scores = [(f"window {window.name}", "window", window.model) for window in evaluation.windows]
    scores += [(f"{one.column}: {one.value}", one.column, one.scores) for one in evaluation.segments]
    rates = [100 * max(one.mean_propensity, one.positive_rate) for *_, one in scores]
    figure, most = go.Figure(), max(rates, default=100.0)
    for place, kind in enumerate(dict.fromkeys(kind for _, kind, _ in scores)):
        own = [(name, one) for name, of, one in scores if of == kind]
        figure.add_scatter(
            x=[100 * one.mean_propensity for _, one in own],
            y=[100 * one.positive_rate for _, one in own],
            hovertext=[label(f"{name}, {one.rows:,} rows") for name, one in own],
            mode="markers",
            name=label(kind),
            marker={"color": COLOURS[place % len(COLOURS)], "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 9},
        )
    figure.add_scatter(x=[0, most], y=[0, most], mode="lines", line={"dash": "dot", "color": PLAIN}, name="as promised")
    figure.update_xaxes(title="mean propensity, %", rangemode="tozero")
    figure.update_yaxes(title="observed rate, %", rangemode="tozero")
    figure.update_layout(legend=_ABOVE)
    return figure


def drawn(charts: Sequence[Chart]) -> list[Markup]:
    """Draw charts as parts of an HTML report, the first with all of Plotly, so that the report loads nothing.

    Returns
    -------
    list
        empty where Plotly is not installed, as in the pipelines' images: tables and pictures say the same
    """
    if find_spec("plotly") is None:
        return []
    parts = list[Markup]()
    for meaning, make in charts:
        figure = make()
        figure.update_layout(
            height=max(260, 130 + 36 * len(figure.data[0].y or ())) if len(figure.data) == 1 else 400,
            margin={"l": 8, "r": 8, "t": 24, "b": 8},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font={"color": PLAIN, "size": 13},
        )
        figure.update_xaxes(automargin=True, gridcolor=_GRID, zerolinecolor=_GRID)
        figure.update_yaxes(automargin=True, gridcolor=_GRID, zerolinecolor=_GRID)
        content = embedded(figure, library=not parts, name=f"chart-{len(parts)}")
        parts.append(Markup('<div role="img" aria-label="{}">{}</div>').format(meaning, Markup(content)))
    return parts


def embedded(figure: "Figure", library: bool, name: str) -> str:
    """Write a figure as HTML, with all of Plotly where it is the first of its page; equal figures give equal text."""
    config = {"displaylogo": False, "responsive": True}
    content: str = figure.to_html(
        full_html=False, include_plotlyjs=library, include_mathjax=False, config=config, div_id=name
    )  # fmt: skip
    return content
