"""offers backtest: replay history, and compare when models are trained again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from cli.data import SourceOption

if TYPE_CHECKING:
    from rich.table import Table

    from offers.backtest.clock import Delay
    from offers.backtest.history import History
    from offers.backtest.results import ReplayResult, SummaryLine
    from offers.contract.contract import Contract


def backtest(
    contract_name: Annotated[
        list[str] | None,
        typer.Option("--contract", "-c", help="Name of a shipped contract, or a YAML file; repeat it."),
    ] = None,
    source: SourceOption = "",
    delay: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows after which a label is known, or days, such as 30d; repeat it. By default the contract's days, "
            "where its rows have dates and labels mature, else 0 rows."
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=0, help="New labels that the layer waits for; 0: the contract's watch.window.")
    ] = 0,
    shift: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Rows by which blocks begin later; repeat it. By default five, a fifth block apart."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the trainings.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 2,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the first delay's results: a .svg, .png or .html file.")
    ] = None,
) -> None:
    """Replay the rows in time order under each policy of retraining, and compare quality with what it took.

    Results are kept below OFFERS_HOME, so that a stopped run goes on where it was.
    """
    from offers.backtest.clock import Delay
    from offers.errors import ContractError
    from offers.settings import Settings

    if picture is not None:
        _check(picture)
    names = contract_name or ["bank-marketing"]
    if len(names) > 1 and (source or picture):
        raise ContractError(
            f"{len(names)} contracts: expected neither --source nor --picture beside them, which are of one contract"
        )
    home, delays = Settings.from_env().home / "backtest", [Delay.parse(text) for text in delay or []]
    for name in names:
        history, origin = _history(name, source, seed, home / "boosters")
        results = _results(history, origin, delays, shift or [], batch, home, workers)
        _show(results, history)
        if picture is not None:
            _draw(history.contract.title, results, picture)


def _check(picture: Path) -> None:
    """Refuse a picture that can't be drawn, before the replay begins."""
    from offers.errors import ContractError
    from offers.reports.interactive import refuse_without_plotly

    if picture.suffix not in (".svg", ".png", ".html"):
        raise ContractError(f"picture {picture}: expected a name that ends in .svg, .png or .html")
    if picture.suffix == ".html":
        refuse_without_plotly()


def _results(
    history: "History",
    origin: str,
    delays: "Sequence[Delay]",
    shifts: Sequence[int],
    batch: int,
    home: Path,
    workers: int,
) -> "list[ReplayResult]":
    """Compare the policies on one contract's rows."""
    from cli.screen import console
    from offers.backtest import comparison as compared
    from offers.backtest.clock import usual_delay

    contract = history.contract
    delays = delays or [usual_delay(contract)]
    shifts = shifts or [n * contract.evaluation.refit_every // 5 for n in range(5)]
    console.print(f"{contract.title}: {len(history.dataset)} rows from {origin}", style="bold")
    with _progress() as tell:
        return compared.compare(history, compared.cases(contract, shifts, delays, batch), home, workers, tell)


def _show(results: "Sequence[ReplayResult]", history: "History") -> None:
    """Print two tables for each delay."""
    from cli.screen import console
    from offers.backtest.results import summary

    for delay in dict.fromkeys(result.delay for result in results):
        lines = summary([result for result in results if result.delay == delay])
        console.print(_quality(lines, history.contract, len(history.dataset) - history.origin))
        console.print(_effort(lines))


def _history(contract_name: str, source: str, seed: int, boosters: Path) -> "tuple[History, str]":
    from offers.backtest.history import History
    from offers.contract import contract as contracts
    from offers.data import periods, validation
    from offers.data.dataset import Dataset
    from offers.decisions import training_rows
    from offers.settings import Settings

    contract = contracts.load(contract_name)
    ingested = training_rows.ingest(contract, Settings.from_env(), source)
    result = validation.validate(ingested.frame, contract)
    if result.violations:
        raise validation.broken_contract(contract.name, result.violations)
    days = periods.days(result.frame, contract)
    return History(contract, Dataset.prepare(result.frame, contract), boosters, seed, days), ingested.origin


def _draw(title: str, results: "Sequence[ReplayResult]", picture: Path) -> None:
    """Draw the first delay's results."""
    from cli.screen import console
    from offers.backtest.clock import Delay
    from offers.backtest.results import summary
    from offers.reports.backtest import draw

    here = [result for result in results if result.delay == results[0].delay]
    if picture.suffix == ".html":
        from offers.reports.interactive import write_page

        write_page(f"Backtest of {title}: {Delay.parse(results[0].delay).words}", here, summary(here), picture)
    else:
        draw(here, summary(here), picture)
    console.print(f"picture: {picture}")


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


def _quality(lines: "Sequence[SummaryLine]", contract: "Contract", rows: int) -> "Table":
    """How good each policy's scores were, and what they won."""
    from offers.backtest.clock import Delay
    from offers.backtest.results import CAPACITIES, earned
    from offers.policy import catalogue as catalogues

    prices = None
    if contract.name in catalogues.shipped():
        offers = catalogues.load(contract.name, contract).offers
        prices = fmean(offer.value for offer in offers), fmean(offer.cost for offer in offers)
    late, alignments = Delay.parse(lines[0].delay).words, max(line.alignments for line in lines)
    title = f"\n{late}; means over {alignments} block alignments\n"
    title += "AUC of all rows and within a month; acceptances where 10 % or 30 % can be\ncontacted"
    title += f", and thousands of EUR at {prices[0]:.0f} EUR each, {prices[1]:.2f} EUR a contact" if prices else ""
    title += ";\nthe oracle of the window sees the future, so it is a bound"
    headings = ("AUC", "month", "ECE", "log-loss", "10 %", "30 %", *(("EUR 10", "EUR 30") if prices else ()))
    table = _table(title, headings)
    for line in lines:
        figures = (line.auc, line.within, line.ece, line.log_loss)
        cells = [*(f"{value:.3f}".removeprefix("0") for value in figures), *(f"{value:.0f}" for value in line.accepted)]
        if prices:
            won = (earned(a, rows, share, *prices) for a, share in zip(line.accepted, CAPACITIES, strict=True))
            cells += [f"{value / 1000:.1f}" for value in won]
        table.add_row(line.policy, *cells, style=_style(line))
    return table


def _effort(lines: "Sequence[SummaryLine]") -> "Table":
    """What each policy took."""
    title = "\nwhat it took; CPU seconds of the replay, beside boosters that were kept"
    table = _table(title, ("trainings", "fits", "updates", "refused", "CPU"))
    for line in lines:
        counts = (line.retrainings, line.fits, line.updates, line.refusals, line.seconds)
        table.add_row(line.policy, *(f"{value:.0f}" for value in counts), style=_style(line))
    return table


def _style(line: "SummaryLine") -> str:
    return "bold" if line.policy == "two of three + layer" else ""


def _table(title: str, headings: Sequence[str]) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("trained again", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", overflow="fold")
    return table
