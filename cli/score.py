"""offers score: every customer of a table, with the offers that they would get."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from offers.wording import counted

BundleOption = Annotated[str, typer.Option(help="A bundle's path, its name in the local store, or its s3:// URI.")]


CustomersArgument = Annotated[
    str,
    typer.Argument(
        help="Delta table, Parquet or CSV file, http(s)://, s3:// or SQLAlchemy URL with a row per customer."
    ),
]
OutputArgument = Annotated[
    str,
    typer.Argument(
        help="Directory for Parquet parts, or a Delta table: NAME.delta or s3://; one that was begun goes on."
    ),
]
CatalogueOption = Annotated[str, typer.Option(help="A shipped catalogue, or a YAML file; the contract's by default.")]
QueryOption = Annotated[
    str, typer.Option(help="SQL text for a database, with an ORDER BY; the contract's source.query by default.")
]
VersionOption = Annotated[
    int | None, typer.Option(min=0, help="Version of a Delta table of customers; the newest by default.")
]
PairsOption = Annotated[
    bool,
    typer.Option("--pairs", help="Write all pairs that are worth their cost, beyond k and limits: for a campaign."),
]
GroupsOption = Annotated[
    bool, typer.Option("--groups", help="Write each customer's group of every protected column, for a campaign.")
]


def score(
    customers: CustomersArgument,
    output: OutputArgument,
    bundle: BundleOption,
    catalogue: CatalogueOption = "",
    customer: Annotated[str, typer.Option(help="Column with the customers' ids.")] = "customer_id",
    query: QueryOption = "",
    version: VersionOption = None,
    k: Annotated[int | None, typer.Option(min=1, help="Places in an answer; the catalogue's by default.")] = None,
    withheld: Annotated[bool, typer.Option("--withheld", help="Write withheld offers and their reasons too.")] = False,
    pairs: PairsOption = False,
    groups: GroupsOption = False,
    rows: Annotated[int, typer.Option(min=1, max=5_000_000, help="Customers in a part.")] = 100_000,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use.")] = 2,
) -> None:
    """Score all customers, and write who would get which offer, in rank order, to Parquet or a Delta table.

    A run that was killed goes on when it is started again: no customer is doubled, and none is left out.
    """
    import time

    from cli.screen import download_progress
    from offers.batch import parts
    from offers.batch.customers import CustomerSchema
    from offers.batch.places import open_parts
    from offers.batch.scoring import Scorer, Versions
    from offers.batch.source import open_customers
    from offers.bundle.location import open_bundle
    from offers.policy import catalogue as catalogues
    from offers.policy.arbitration import Policy
    from offers.settings import Settings

    settings, began = Settings.from_env(), time.monotonic()
    model_bundle = open_bundle(bundle, settings)
    contract = model_bundle.contract
    offer_catalogue = catalogues.load(catalogue or contract.name, contract)
    policy = Policy(offer_catalogue.unlimited() if pairs else offer_catalogue, contract)
    schema = CustomerSchema(contract, customer)
    with download_progress() as progress:
        source = open_customers(customers, schema, settings, query or contract.source.query or "", version, progress)
    versions = Versions.of(model_bundle.name, offer_catalogue)
    scorer = Scorer(model_bundle.model, policy, schema, versions, k, withheld, threads, groups)
    places, content = k or policy.catalogue.policy.k, {"withheld": withheld, "pairs": pairs, "groups": groups}
    manifest = parts.manifest_of(source, scorer, places, rows, **content)
    with _bar(source.total) as tell:
        summary = parts.score(source, scorer, open_parts(output, settings, parts.WHOLE), manifest, tell)
    people = f"{counted(summary.customers, 'customer')} ({summary.earlier} of them by an earlier run)"
    place = f"{counted(summary.parts, 'part')} in {output}, {time.monotonic() - began:.1f} s"
    origin = f"bundle {versions.bundle}, catalogue {versions.catalogue}, policy {versions.policy}"
    typer.echo(f"{people}, {place}; {origin}")


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show rows, rate and time left on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from cli.screen import console

    columns = (
        TextColumn("{task.completed:,.0f} customers"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, rate="")

        def tell(customers: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=customers, rate=f"{speed:,.0f} a second" if speed else "")

        yield tell
