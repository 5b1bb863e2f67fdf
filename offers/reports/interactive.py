"""A backtest as one interactive HTML page, drawn by Plotly, which the extra `app` brings; the page loads nothing."""

import html
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from offers.backtest.comparison import SPAN
from offers.backtest.results import ReplayResult, SummaryLine
from offers.errors import SourceError
from offers.files import os_errors, settle
from offers.reports.charts import COLOURS, embedded, line_style

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SHOWN = ("never", "two of three", "two of three + layer")
"""Policies whose lines are there at first; a click on another's name shows its."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<style>body {{ font-family: sans-serif; margin: 1rem auto; max-width: 70rem; }}</style></head>
<body><h1>{title}</h1>
<p>A click on a policy's name shows or hides it; a double click shows it alone; drag to look closer.</p>
{figures}</body></html>
"""


def refuse_without_plotly() -> None:
    """Say how to get Plotly where it is not installed, before anything long has begun.

    Raises
    ------
    SourceError
        it is not installed
    """
    if find_spec("plotly") is None:
        raise SourceError(
            "an HTML page is drawn by Plotly, which is not installed: install it with the extra 'app', as in "
            "'pip install offers[app]', or name a picture that ends in .svg or .png"
        )


def write_page(title: str, results: Sequence[ReplayResult], lines: Sequence[SummaryLine], path: Path) -> None:
    """Write one label delay's results as a page.

    Parameters
    ----------
    title : names contract and delay
    results, lines : of `offers.backtest.comparison.compare` and `summary`, of one delay

    Raises
    ------
    SourceError
        Plotly is not installed
    StorageError
        the page can't be written
    """
    refuse_without_plotly()
    parts = [embedded(_quality(results), True, "quality"), embedded(_price(lines), False, "price")]
    page = _PAGE.format(title=html.escape(title), figures="\n".join(parts))
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        settle(path, lambda unfinished: unfinished.write_text(page, "utf-8"))


def _quality(results: Sequence[ReplayResult]) -> "Figure":
    """Draw each policy's log-loss over time at the first alignment, with a mark where it trained again."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for place, result in enumerate(one for one in results if one.alignment == results[0].alignment):
        rows = [SPAN * (n + 0.5) for n in range(len(result.over_time))]
        losses = [span.log_loss for span in result.over_time]
        trained = {min(at // SPAN, len(losses) - 1) for at in result.retrained} if losses else set()
        figure.add_scatter(
            x=rows,
            y=losses,
            name=f"{html.escape(result.policy)}: {len(result.retrained)} trainings",
            mode="lines+markers",
            line=line_style(place),
            marker={"size": [9 if n in trained else 3 for n in range(len(losses))]},
            visible=True if result.policy in SHOWN else "legendonly",
            hovertemplate="row %{x:,.0f}: log-loss %{y:.3f}",
        )
    figure.update_xaxes(title="rows since the first training; large marks: trained again")
    figure.update_yaxes(title=f"log-loss by {SPAN:,} rows")
    figure.update_layout(height=480, template="plotly_white", margin={"t": 24})
    return figure


def _price(lines: Sequence[SummaryLine]) -> "Figure":
    """Draw pooled AUC, with its range over the alignments, against the number of trainings."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for place, line in enumerate(lines):
        span = {"array": [line.highest_auc - line.auc], "arrayminus": [line.auc - line.lowest_auc]}
        figure.add_scatter(
            x=[line.retrainings],
            y=[line.auc],
            error_y=span,
            name=html.escape(line.policy),
            mode="markers",
            marker={
                "color": COLOURS[place % len(COLOURS)],
                "symbol": "diamond" if line.learns else "circle",
                "size": 9,
            },
            hovertemplate=f"%{{x:.1f}} trainings: AUC %{{y:.3f}}, ECE {line.ece:.3f}, log-loss {line.log_loss:.3f}",
        )
    figure.update_xaxes(title="trainings, mean over the alignments")
    figure.update_yaxes(title="AUC, all rows pooled")
    figure.update_layout(height=480, template="plotly_white", margin={"t": 24})
    return figure
