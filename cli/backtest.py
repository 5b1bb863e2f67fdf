"""offers backtest: replay history, and compare when models are trained again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.data import ContractOption, SourceOption

if TYPE_CHECKING:
    from rich.table import Table

    from offers.backtest.history import History
    from offers.backtest.results import ReplayResult, SummaryLine


def backtest(
    contract_name: ContractOption = "bank-marketing",
    source: SourceOption = "",
    delay: Annotated[
        list[int] | None, typer.Option(min=0, help="Rows after which a label is known; repeat it.")
    ] = None,
    shift: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Rows by which blocks begin later; repeat it. By default five, a fifth block apart."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the trainings.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 2,
    picture: Annotated[Path | None, typer.Option(help="Draw the first delay's results: an SVG or PNG file.")] = None,
) -> None:
    """Replay the rows in time order under each policy of retraining, and compare quality with what it took.

    Results are kept below OFFERS_HOME, so that a stopped run goes on where it was.
    """
    from cli.screen import console
    from offers.backtest import comparison as compared
    from offers.backtest.results import summary
    from offers.errors import ContractError
    from offers.settings import Settings

    if picture is not None and picture.suffix not in (".svg", ".png"):
        raise ContractError(f"picture {picture}: expected a name that ends in .svg or .png")
    home = Settings.from_env().home / "backtest"
    history, origin = _history(contract_name, source, seed, home / "boosters")
    delays, contract = delay or [0], history.contract
    shifts = shift or [n * contract.evaluation.refit_every // 5 for n in range(5)]
    console.print(f"{contract.title}: {len(history.dataset)} rows from {origin}", style="bold")
    with _progress() as tell:
        results = compared.compare(history, compared.cases(contract, shifts, delays), home, workers, tell)
    for late in delays:
        here = [result for result in results if result.delay == late]
        lines = summary(here)
        console.print(_table(lines, late))
        if picture is not None and late == delays[0]:
            _draw(here, lines, picture)
            console.print(f"picture: {picture}")


def _history(contract_name: str, source: str, seed: int, boosters: Path) -> "tuple[History, str]":
    from offers.backtest.history import History
    from offers.contract import contract as contracts
    from offers.data import validation
    from offers.data.dataset import Dataset
    from offers.decisions import training_rows
    from offers.settings import Settings

    contract = contracts.load(contract_name)
    ingested = training_rows.ingest(contract, Settings.from_env(), source)
    result = validation.validate(ingested.frame, contract)
    if result.violations:
        raise validation.broken_contract(contract.name, result.violations)
    return History(contract, Dataset.prepare(result.frame, contract), boosters, seed), ingested.origin


def _draw(results: "Sequence[ReplayResult]", lines: "Sequence[SummaryLine]", picture: Path) -> None:
    from offers.reports.backtest import draw

    draw(results, lines, picture)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal; elsewhere a line for every tenth case."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cli.screen import console

    columns = (
        TextColumn("replay"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("replay", name="")

        def done(n: int, total: int, name: str) -> None:
            progress.update(task, completed=n, total=total, name=name)
            if not console.is_terminal and n % 10 == 0:
                console.print(f"{n} of {total} replays {name}")

        yield done


def _table(lines: "Sequence[SummaryLine]", delay: int) -> "Table":
    from rich.table import Table

    late = f"labels known {delay} rows later" if delay else "labels known at once"
    title = f"\n{late}; means over {max(line.alignments for line in lines)} block alignments\n"
    title += "AUC of all rows and within a month; acceptances if 10 % or 30 % can be contacted;\n"
    title += "trainings, boosters fitted, swaps refused, updates, CPU seconds beside kept boosters"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    headings = ("AUC", "month", "ECE", "loss", "10 %", "30 %", "train", "fits", "ref", "upd", "CPU")
    table.add_column("trained again", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        counts = (line.retrainings, line.fits, line.refusals, line.updates, line.seconds)
        table.add_row(
            line.policy,
            *(f"{value:.3f}".removeprefix("0") for value in (line.auc, line.within, line.ece, line.log_loss)),
            *(f"{value:.0f}" for value in (*line.accepted, *counts)),
            style="bold" if line.policy == "two of three + layer" else "",
        )
    return table
