"""offers policy: look at a catalogue, and check it."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Check catalogues of offers and their policies.")

CatalogueArgument = Annotated[str, typer.Argument(help="Name of a shipped catalogue, or a YAML file.")]
ContractOption = Annotated[
    str,
    typer.Option("--contract", "-c", help="Name of a shipped contract, or a YAML file; the catalogue's by default."),
]


@app.command()
def check(catalogue: CatalogueArgument, contract: ContractOption = "") -> None:
    """Hold a catalogue against its contract, and show its offers."""
    from rich.console import Console
    from rich.table import Table

    from offers.contract import contract as contracts
    from offers.policy import catalogue as catalogues

    known = contracts.load(contract or _contract_of(catalogue))
    found = catalogues.load(catalogue, known)
    table = Table("offer", "family", "value", "cost", "weight", "lever", box=None, pad_edge=False)
    for offer in found.offers:
        figures = (offer.value, offer.cost, offer.weight, offer.lever)
        table.add_row(offer.id, offer.family, *(f"{figure:g}" for figure in figures))
    Console(highlight=False).print(table)
    policy = found.policy
    typer.echo(
        f"{found.name} {found.version}, policy {policy.version}: {len(found.offers)} offers in {len(found.families)}"
        f" families keep to contract {known.name}; k {policy.k}, exploration {policy.exploration.kind},"
        f" fallback {policy.fallback or 'none'}"
    )


@app.command()
def schema(
    output: Annotated[Path, typer.Argument(help="The JSON file to write.")] = Path("catalogue.schema.json"),
) -> None:
    """Write the JSON Schema by which an editor completes and checks catalogues."""
    from offers.contract.reference import json_schema
    from offers.files import new_text
    from offers.policy.catalogue import Catalogue

    new_text(output, json_schema(Catalogue, "A catalogue of Offers", {}))
    typer.echo(f"{output}: let the first line of a catalogue be # yaml-language-server: $schema={output}")


@app.command()
def init(
    contract: ContractOption = "bank-marketing",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The catalogue; by default NAME-offers.yaml.")
    ] = None,
) -> None:
    """Draft a catalogue for a contract, which 'offers policy check' takes at once."""
    from offers.contract import contract as contracts
    from offers.files import new_text
    from offers.policy import catalogue as catalogues
    from offers.policy import draft

    known = contracts.load(contract)
    text = draft.catalogue_text(known)
    path = output or Path(f"{known.name}-offers.yaml")
    catalogue = catalogues.parse(text, known, str(path))
    new_text(path, text)
    typer.echo(f"{path}: {len(catalogue.offers)} made-up offers for contract {known.name}; give them names and values")


def _contract_of(catalogue: str) -> str:
    from offers.contract import contract as contracts
    from offers.errors import CatalogueError
    from offers.policy import catalogue as catalogues

    name, shipped = catalogues.contract_of(catalogue), contracts.shipped()
    if name not in shipped:
        raise CatalogueError(
            f"{catalogue} is for contract {name!r}, which is none of the shipped ones ({', '.join(shipped)}): name its"
            " file with --contract"
        )
    return name
