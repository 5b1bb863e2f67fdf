"""What if one thing about the customer were another: each offer's score along a column."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from offers.contract.column import Column
from offers.reports.charts import PLAIN, label, line_style
from serving.app.fields import asked_of, title
from serving.app.place import Served, reference
from serving.app.scoring import ranked, scores
from serving.app.screen import advice, chart, part, percent, table

POINTS, CURVES = 41, 6


@part
def what_if(here: Served, values: Mapping[str, Any], offers: Sequence[str]) -> None:
    """Show a slider for a column and the curves of the ranked offers' scores; the library answers, nothing is logged.

    Parameters
    ----------
    values : the customer's
    offers : ids whose curves are drawn
    """
    columns = {column.name: column for column in asked_of(here.contract)}
    name = st.selectbox("Column", list(columns), key="what-if column")
    if not offers or not name:
        advice("Nothing is offered to this customer, so there is no score to follow.")
        return
    column = columns[name]
    grid = grid_of(here, column)
    chosen = _chosen(column, values[name], grid)
    # The ranks stand before the curves, which take a browser longer to draw.
    ranking = ranked(here, [dict(values) | {name: chosen}], [offer.id for offer in here.policy.offers])[0]
    best = [(one.rank, one.offer.id, percent(one.propensity), f"{one.score:,.2f}") for one in ranking.ranked[:CURVES]]
    table(("rank", "offer", "propensity", "score, EUR"), best)
    shown = list(offers)[:CURVES]
    curves = _curves(here.bundle.name, here.catalogue.version, here, dict(values), name, grid, shown)
    figure = go.Figure()
    words = grid if column.is_numeric else [label(_word(value)) for value in grid]
    for place, (offer, curve) in enumerate(curves.items()):
        mode = "lines" if column.is_numeric else "lines+markers"
        figure.add_scatter(x=words, y=curve, mode=mode, name=label(offer), line=line_style(place))
    if column.is_numeric:
        figure.add_vline(chosen, line_dash="dot", line_color=PLAIN)
    figure.update_xaxes(title=label(f"{name}, {column.unit}" if column.unit else name))
    figure.update_yaxes(title="score, EUR")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    chart(figure, f"Scores of {', '.join(shown)} along {name}, in EUR", "what-if", 380)


@st.cache_data(max_entries=64, show_spinner=False)
def _curves(
    bundle: str, version: str, _here: Served, values: dict[str, Any], name: str, grid: list[Any], offers: list[str]
) -> dict[str, list[float]]:
    """Score the offers along a column; once for all moves of its slider, which change no curve."""
    return scores(_here, [values | {name: value} for value in grid], offers)


def grid_of(here: Served, column: Column) -> list[Any]:
    """List the values of a column to look at: between the bundle's 1st and 99th percentile, or all there are."""
    if not column.is_numeric:
        options: list[Any] = list(column.values) if column.type == "category" else [False, True]
        return options + ([None] if column.may_be_missing else [])
    known = reference(str(here.bundle.path))[column.name].dropna().to_numpy(np.float64)
    low, high = np.percentile(known, [1, 99]) if len(known) else (column.min or 0.0, column.max or 1.0)
    if high <= low:
        low, high = low if column.min is None else column.min, high if column.max is None else column.max
    grid = np.linspace(low, max(high, low), POINTS)
    return [int(value) for value in np.unique(grid.round())] if column.type == "integer" else grid.tolist()


def _chosen(column: Column, value: Any, grid: Sequence[Any]) -> Any:
    if not column.is_numeric or len(grid) < 2:
        start = value if value in grid else grid[0]
        return st.select_slider(title(column), list(grid), start, _word, key=f"what-if {column.name}")
    if value is None:
        value = grid[len(grid) // 2]
    start = min(max(type(grid[0])(value), grid[0]), grid[-1])
    return st.slider(title(column), grid[0], grid[-1], start, key=f"what-if {column.name}")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not known" if value is None else str(value)
