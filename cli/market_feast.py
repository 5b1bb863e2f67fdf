"""offers market feast: a feature repository of Feast from a market's contract."""

from pathlib import Path
from typing import Annotated

import typer


def feast(
    repository: Annotated[Path, typer.Argument(help="The directory of the feature repository.")],
    market: Annotated[
        str, typer.Option("--market", "-m", help="Name of a shipped market, or a YAML file.")
    ] = "fintech",
    tables: Annotated[
        Path | None, typer.Option(help="Where the market's tables are: the offline tables are made of them.")
    ] = None,
) -> None:
    """Write definitions for Feast, a feature_store.yaml where there is none, and the tables that they are of."""
    from offers.contract import market as markets
    from offers.data.feast_repository import DATA, write_repository, write_tables

    content = markets.load(market)
    counts = {} if tables is None else write_tables(content, tables, repository)
    views = write_repository(content, repository)
    typer.echo(f"{len(views)} feature views: {repository / 'definitions.py'}")
    for name, rows in counts.items():
        typer.echo(f"{rows} rows: {repository / DATA / name}.parquet")
    if tables is None:
        typer.echo(f"Their tables must lie in {repository / DATA}, as {views[0].name}.parquet, …; --tables makes them.")
