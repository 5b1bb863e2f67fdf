"""offers data: fetch, validate, simulate and describe the rows of a contract."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offers.wording import counted

if TYPE_CHECKING:
    from offers.contract.contract import Contract
    from offers.data.validation import Validation

app = typer.Typer(no_args_is_help=True, help="Fetch, validate, simulate, describe and load the rows of a contract.")

ContractOption = Annotated[str, typer.Option("--contract", "-c", help="Name of a shipped contract, or a YAML file.")]
SourceOption = Annotated[
    str,
    typer.Option(
        help="Where the rows are, instead of the contract's source: path, URL, s3://, SQL URL, 'simulated' or "
        "layers:PLACE@VERSION; "
        "with ' + decisions:TABLES' the decision log stands behind it."
    ),
]


@app.command()
def fetch(contract: ContractOption = "bank-marketing", source: SourceOption = "") -> None:
    """Bring the contract's file here, verified, and print its path."""
    from cli.screen import download_progress
    from offers.contract import contract as contracts
    from offers.data import sources
    from offers.settings import Settings

    with download_progress() as progress:
        path = sources.fetch(contracts.load(contract), Settings.from_env(), source, progress)
    typer.echo(path)


@app.command()
def validate(contract_name: ContractOption = "bank-marketing", source: SourceOption = "") -> None:
    """List every rule of the contract that the rows break."""
    from cli.data_tables import violations_table
    from cli.screen import console
    from offers.data import validation

    contract, origin, checked = _validated(contract_name, source)
    if checked.violations:
        console.print(violations_table(checked.violations))
        raise validation.broken_contract(contract.name, checked.violations)
    console.print(f"{len(checked.frame)} rows from {origin} keep to contract {contract.name}")
    for note in checked.notes:
        console.print(f"note: {note}")


@app.command()
def simulate(
    output: Annotated[Path, typer.Argument(help="The file to write, in the form that the contract declares.")],
    contract_name: ContractOption = "bank-marketing",
    rows: Annotated[int | None, typer.Option(min=1, help="Rows; by default the contract's number.")] = None,
    seed: Annotated[int, typer.Option(help="Of the world and its rows.")] = 0,
) -> None:
    """Write rows of the contract's simulated world."""
    from offers.contract import contract as contracts
    from offers.data.csv_writer import write_csv
    from offers.simulation.world import World

    contract = contracts.load(contract_name)
    sample = World(contract, seed).sample(rows or contract.simulation.rows, seed=seed)
    write_csv(sample.frame, contract, output)
    typer.echo(f"{len(sample.frame)} simulated rows, {sample.propensity.mean():.1%} expected to accept: {output}")


@app.command()
def describe(contract_name: ContractOption = "bank-marketing", source: SourceOption = "") -> None:
    """Show what each column holds and how acceptance goes through time."""
    from cli.data_tables import columns_table, periods_table
    from cli.screen import console
    from offers.data import validation

    contract, origin, checked = _validated(contract_name, source)
    if checked.violations:
        raise validation.broken_contract(contract.name, checked.violations)
    console.print(f"{contract.title}: {counted(len(checked.frame), 'row')} from {origin}", style="bold")
    console.print(columns_table(checked.frame, contract))
    if contract.time is not None:
        console.print(periods_table(checked.frame, contract))


def _validated(contract_name: str, source: str) -> "tuple[Contract, str, Validation]":
    from offers.contract import contract as contracts
    from offers.data import validation
    from offers.decisions import training_rows
    from offers.settings import Settings

    contract = contracts.load(contract_name)
    ingested = training_rows.ingest(contract, Settings.from_env(), source)
    return contract, ingested.origin, validation.validate(ingested.frame, contract)
