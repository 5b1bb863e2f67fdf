"""Terminal output that commands share: the console, notices, facts, and the progress of a download."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from offers.reports.tables import Table as Content

_LOG_WIDTH = 160


def width_of(output: TextIO) -> int | None:
    """Choose the width of lines; None for that of the terminal.

    A log has no width of its own. Rich would take 80 columns for it, and wrap the tables of wide contracts.
    """
    return None if output.isatty() or "COLUMNS" in os.environ else _LOG_WIDTH


# Data is printed unchanged, without markup or emoji, and is not cut to a narrow screen.
console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width_of(sys.stdout))


@contextmanager
def download_progress() -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar, which appears when the first bytes arrive."""
    columns = (TextColumn("download"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: list[TaskID] = []

        def arrived(done: int, total: int | None) -> None:
            if not tasks:
                tasks.append(progress.add_task("download", total=total))
            progress.update(tasks[0], completed=done, total=total)

        yield arrived


def notice(title: str, text: str) -> Panel:
    """Make a conspicuous notice."""
    return Panel(Text(text), title=title, border_style="bold yellow")


def plain_table(*headings: str) -> Table:
    """Make a table without lines whose words wrap on a narrow screen, so that none is cut."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def wrap_help() -> None:
    """Let Typer's help wrap at any width; by itself it cuts long words, and keeps the line breaks of docstrings."""
    from rich.columns import Columns
    from typer import rich_utils

    class Folding(Table):
        def add_row(self, *cells: Any, **options: Any) -> None:
            joint = (
                Text(" ").join(cast(list[Text], cell.renderables)) if isinstance(cell, Columns) else cell
                for cell in cells
            )
            super().add_row(*joint, **options)
            for column in self.columns:
                column.overflow = "fold"

    def unbroken(paragraphs: list[str], markup_mode: object) -> str:
        return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)

    for name, ours in (("Table", Folding), ("_fix_linebreaks", unbroken)):
        setattr(rich_utils, name, ours)


def shown(table: "Content") -> Table:
    """Show a table of a report, each cell's note below its text."""
    grid = Table(*(cell.text for cell in table.head), box=None, pad_edge=False)
    for row in table.rows:
        grid.add_row(*(Text(f"{cell.text}\n{cell.note}" if cell.note else cell.text) for cell in row))
    return grid


def facts_table(facts: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, "dim"), Text(str(value)))
    return table
