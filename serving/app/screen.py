"""What all pages share: text that stays text, tables, figures in colours for everybody, and errors in a sentence."""

import html
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import plotly.graph_objects as go
import streamlit as st

from offers.errors import OffersError, SourceError
from offers.files import os_errors
from offers.reports.tables import Table
from offers.settings import Settings

P = ParamSpec("P")

SENTENCE = 60
"""Characters from which a cell of a table holds words rather than a figure, and is given room."""
_TABLE_STYLE = """<style>
.offers-table { overflow-x: auto; }
.offers-table table { border-collapse: collapse; width: 100%; font-size: 0.875rem; }
.offers-table th, .offers-table td { border: 1px solid rgba(128, 128, 128, 0.35); padding: 0.35rem 0.5rem; }
.offers-table th { font-weight: 600; text-align: left; }
.offers-table td { overflow-wrap: anywhere; min-width: 5.5rem; }
.offers-table td.words { min-width: 15rem; }
</style>"""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$~:&@])")


def plain(text: object) -> str:
    """Escape a text for Streamlit, which takes labels and sentences for Markdown."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def guarded(show: Callable[P, None]) -> Callable[P, None]:
    """Show a user's mistake as a sentence, and a fault of ours without a traceback, which the log of the app has."""

    @wraps(show)
    def page(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with os_errors(Settings.from_env().home):
                show(*args, **kwargs)
        except OffersError as error:
            st.error(plain(error))
        except Exception:
            traceback.print_exc(file=sys.stderr)
            log = Settings.from_env().home / "app" / "app.log"
            st.error(plain(f"This is a fault of ours: {log} tells it; reload the page to go on."))

    return page


def part(show: Callable[P, None]) -> Callable[P, None]:
    """Make a part of a page that is drawn again alone when something in it changes."""
    drawn: Callable[P, None] = st.fragment(guarded(show))
    return drawn


def advice(sentence: str, *commands: str) -> None:
    """Say what is not there yet, and which commands bring it."""
    st.info(plain(sentence))
    if commands:
        st.code("\n".join(commands), language="bash", wrap_lines=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Show a table; it scrolls in itself where the screen is narrow, by keyboard, too."""
    head = "".join(f'<th scope="col">{_cell(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(map(_data, row))}</tr>" for row in rows)
    content = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    name = html.escape(f"Table of {', '.join(map(str, columns[:3]))}")
    st.html(f'{_TABLE_STYLE}<div class="offers-table" tabindex="0" role="region" aria-label="{name}">{content}</div>')


def _data(cell: object) -> str:
    text = _cell(cell)
    return f'<td class="words">{text}</td>' if len(text) > SENTENCE else f"<td>{text}</td>"


def _cell(cell: object) -> str:
    return html.escape("–" if cell is None or cell == "" else " ".join(str(cell).split()))


def uploaded(file: Any) -> str:
    """Read the text of an uploaded file, for the readers of YAML, which take a text without a line's end for a name."""
    try:
        return str(file.getvalue().decode("utf-8")) + "\n"
    except UnicodeDecodeError:
        raise SourceError(f"{file.name}: expected a file of text in UTF-8, got other bytes") from None


def report_table(content: Table) -> None:
    """Show a table of a report; a cell's note stands behind its text."""
    words = [[f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in row] for row in content.rows]
    table([f"{cell.text}, {cell.note}" if cell.note else cell.text for cell in content.head], words)


def chart(figure: go.Figure, meaning: str, key: str, height: int = 320) -> None:
    """Show a figure; `meaning` is what it says, for those who hear the page."""
    figure.update_layout(height=height, margin={"l": 8, "r": 8, "t": 16, "b": 8}, hovermode="closest")
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=meaning)


def euros(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f} EUR"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}"
