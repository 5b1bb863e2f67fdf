"""offers contract: write a first contract for a table, and the schema by which editors check contracts."""

from pathlib import Path
from typing import Annotated

import typer

from offers.wording import counted

app = typer.Typer(no_args_is_help=True, help="Write a first contract for a table, and a schema for editors.")


@app.command()
def schema(
    output: Annotated[Path, typer.Argument(help="The JSON file to write.")] = Path("contract.schema.json"),
) -> None:
    """Write the JSON Schema by which an editor completes and checks contracts."""
    from offers.files import new_text

    new_text(output, _schema())
    typer.echo(f"{output}: let the first line of a contract be # yaml-language-server: $schema={output}")


@app.command()
def init(
    rows: Annotated[str, typer.Argument(metavar="FILE", help="A CSV, Parquet or xlsx file, or a SQLAlchemy URL.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The contract; by default FILE's name.")] = None,
    target: Annotated[str, typer.Option(help="The outcome's column; a likely one by default.")] = "",
    query: Annotated[str, typer.Option(help="The SQL text that a database is asked.")] = "",
) -> None:
    """Draft a contract from rows, with every guess marked, so that it passes 'offers data validate' at once."""
    from offers.contract import contract as contracts
    from offers.data import draft, validation
    from offers.errors import ContractError, SourceError
    from offers.files import new_text

    if "://" in rows and not rows.startswith("file://"):
        if not query:
            raise SourceError("a database: expected --query 'select ...', which says what its rows are")
        table, source, name = draft.read_query(rows, query), {"uri": rows, "query": query}, "query"
        source["file"] = "query"
    else:
        path = Path(rows.removeprefix("file://"))
        table, source, name = (
            draft.read_file(path),
            {"file": path.name, "uri": str(path.resolve())},
            path.name.split(".")[0],
        )
    path = output or Path(f"{name}.yaml")
    text = draft.contract_text(table, source, name, target)
    contract = contracts.parse(text, str(path))
    result = validation.validate(table.frame, contract)
    new_text(path, text)
    schema_beside = path.with_name(draft.SCHEMA)
    if not schema_beside.exists():
        new_text(schema_beside, _schema())
    if result.violations:
        raise ContractError(
            f"{path} is written, but needs your hand: {validation.broken_contract(contract.name, result.violations)}"
        )
    columns, inputs = counted(len(contract.columns), "column"), counted(len(contract.inputs), "input")
    guesses = counted(text.count("  # "), "guess", "guesses")
    typer.echo(
        f"{path}: {columns}, {inputs} among them; the outcome is {contract.target.column!r}, accepted where"
        f" {contract.target.positive!r}. {guesses} to check, behind a #"
    )


def _schema() -> str:
    from offers.contract.contract import Contract
    from offers.contract.reference import json_schema
    from offers.contract.words import CONTRACT

    return json_schema(Contract, "A contract of Offers", CONTRACT)
