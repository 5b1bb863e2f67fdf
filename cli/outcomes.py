"""offers outcomes: tell the decision log what customers did."""

from pathlib import Path
from typing import Annotated

import typer

from offers.wording import counted

app = typer.Typer(no_args_is_help=True, help="Tell the decision log what customers did.")

TablesOption = Annotated[
    str, typer.Option(help="Directory, or s3:// prefix, of the tables of the decision log; tables in the local home.")
]


@app.callback()
def outcomes() -> None:
    """Tell the decision log what customers did."""


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="CSV with a header, or Parquet: decision_id, kind, observed_at, ...")],
    tables: TablesOption = "",
) -> None:
    """Append the outcomes of a file to the log. The same file, loaded again, adds nothing."""
    from offers.decisions import outcomes
    from offers.settings import Settings
    from offers.store.delta import DeltaTables

    settings = Settings.from_env()
    result = outcomes.load(file, DeltaTables.at(tables or str(settings.home / "tables"), settings))
    quarantine = f"{counted(result.quarantined, 'row')} in quarantine with the reason why"
    sentence = f"{file}: {counted(result.outcomes, 'outcome')}, {quarantine}"
    typer.echo(f"{sentence}; this file had been loaded before, so nothing was added" if result.again else sentence)
