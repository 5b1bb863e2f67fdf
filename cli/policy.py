"""offers policy: look at a catalogue, and check it."""

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
