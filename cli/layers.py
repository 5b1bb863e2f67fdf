"""offers data ingest and loads: bring rows into the layers of a contract, and look at the loads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.data import ContractOption, SourceOption
from offers.wording import counted

if TYPE_CHECKING:
    from offers.contract.contract import Contract
    from offers.layers.profile import LoadReport
    from offers.store.delta import DeltaTables

LayersOption = Annotated[str, typer.Option(help="Directory or s3:// prefix of the layers; layers in the local home.")]


def ingest(
    contract_name: ContractOption = "bank-marketing",
    source: SourceOption = "",
    layers: LayersOption = "",
    since: Annotated[str, typer.Option(help="Only rows from this date on; 'last' is the newest in silver.")] = "",
    page: Annotated[Path | None, typer.Option(help="The HTML page to write, such as loads.html.")] = None,
) -> None:
    """Bring rows into bronze, silver and gold; the same rows, loaded again, add nothing."""
    from datetime import UTC, datetime

    from cli.screen import console, download_progress
    from offers.data import sources
    from offers.layers import loading
    from offers.settings import Settings

    contract, tables = _tables(contract_name, layers)
    with download_progress() as progress:
        rows, left_out = sources.ingest(contract, Settings.from_env(), source, progress), 0
    if since:
        rows, left_out = loading.since(rows, contract, tables, since)
    report, again = loading.load(rows, contract, tables, datetime.now(UTC), left_out, console.print)
    if again:
        console.print(
            f"These rows were loaded before, as load {report.load} at {report.at:%Y-%m-%d %H:%M} UTC: nothing was added"
        )
    else:
        _show(report)
    if page is not None:
        _write(page, contract, tables)


def loads(
    contract_name: ContractOption = "bank-marketing",
    layers: LayersOption = "",
    page: Annotated[Path | None, typer.Option(help="The HTML page to write, such as loads.html.")] = None,
) -> None:
    """List the loads of a contract, with what was unlike the loads before."""
    from cli.screen import console, plain_table
    from offers.errors import SourceError
    from offers.layers import loading

    contract, tables = _tables(contract_name, layers)
    reports = list(loading.reports(tables))
    if not reports:
        raise SourceError(
            f"{tables.root}: expected loads of contract {contract.name}, found none; 'offers data ingest' makes one"
        )
    table = plain_table("load", "at (UTC)", "rows", "new", "corrected", "rejected", "gold", "unlike")
    for one in reports:
        counts = one.rows, one.change.new, one.change.corrected, one.rejected
        gold = "none" if one.gold is None else f"{one.gold}: {one.gold_rows} rows"
        table.add_row(one.load, f"{one.at:%Y-%m-%d %H:%M}", *map(str, counts), gold, str(len(one.anomalies)))
    console.print(table)
    for anomaly in reports[-1].anomalies:
        console.print(f"unlike the loads before: {anomaly}", style="yellow")
    if page is not None:
        _write(page, contract, tables)


def _tables(contract_name: str, layers: str) -> "tuple[Contract, DeltaTables]":
    from offers.contract import contract as contracts
    from offers.layers.places import layers_of
    from offers.settings import Settings

    contract = contracts.load(contract_name)
    return contract, layers_of(contract, layers, Settings.from_env())


def _show(report: "LoadReport") -> None:
    from cli.screen import console

    change = report.change
    parts = {
        counted(change.unchanged, "row") + " that were there already": change.unchanged,
        counted(change.late, "late row"): change.late,
        counted(change.waiting, "row") + " without an outcome yet": change.waiting,
        counted(report.repeated, "row") + " whose key comes again below": report.repeated,
        counted(report.left_out, "row") + " from before --since": report.left_out,
    }
    for words in (words for words, count in parts.items() if count):
        console.print(f"- {words}", style="dim")
    if report.note:
        console.print(f"no new gold: {report.note}", style="yellow")
    for anomaly in report.anomalies:
        console.print(f"unlike the loads before: {anomaly}", style="yellow")


def _write(page: Path, contract: "Contract", tables: "DeltaTables") -> None:
    from cli.screen import console
    from offers.files import new_text
    from offers.layers import loading
    from offers.reports.layers import loads_page

    new_text(page, loads_page(contract, list(loading.reports(tables))))
    console.print(f"page  {page}")
