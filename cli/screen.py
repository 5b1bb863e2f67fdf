"""Terminal output that commands share: the console, notices, facts, and the progress of a download."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

# Data is printed unchanged, without markup or emoji, and is not cut to a narrow screen.
console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


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


def facts_table(facts: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, "dim"), Text(str(value)))
    return table
