"""offers score: every customer of a table, with the offers that they would get."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from offers.wording import counted

if TYPE_CHECKING:
    from offers.batch.order import Order
    from offers.settings import Settings

BundleOption = Annotated[
    str,
    typer.Option(
        help="A bundle's path, its name in the local store, its s3:// URI, or champion:CONTRACT: what serves now."
    ),
]


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


RowsOption = Annotated[int | None, typer.Option(min=1, max=5_000_000, help="Customers in a part; 100000 by default.")]


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
    rows: RowsOption = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use.")] = 2,
    shards: Annotated[
        int, typer.Option(min=0, help="Run the scoring pipeline here, in so many shards, with a report; 0 for none.")
    ] = 0,
    spark: Annotated[str, typer.Option(help="Score with Spark, whose master this is, such as local[2].")] = "",
) -> None:
    """Score all customers, and write who would get which offer, in rank order, to Parquet or a Delta table.

    A run that was killed goes on when it is started again: no customer is doubled, and none is left out.
    """
    # Before Arrow is loaded: its own pools keep some 70 MiB that a run has given back.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from cli.screen import download_progress
    from offers.batch.order import Options, Order, work_of
    from offers.settings import Settings
    from offers.steps import champion

    settings, began = Settings.from_env(), time.monotonic()
    asked = {"customer": customer, "query": query, "version": version, "k": k, "rows": rows}
    options = Options(**asked, withheld=withheld, pairs=pairs, groups=groups)
    order = Order(bundle=bundle, customers=customers, output=output, catalogue=catalogue, options=options)
    if shards:
        _pipeline(order, shards, settings)
        return
    order = champion.fetched(champion.settled(order, settings), settings)
    if spark:
        _spark(order, spark, settings)
        return
    with download_progress() as progress:
        work = work_of(order, settings, progress)
    with _bar(work.source.total) as tell:
        summary, manifest = work.run(settings, tell, threads), work.manifest()
    people = f"{counted(summary.customers, 'customer')} ({summary.earlier} of them by an earlier run)"
    place = f"{counted(summary.parts, 'part')} in {output}, {time.monotonic() - began:.1f} s"
    origin = f"bundle {manifest.bundle}, catalogue {manifest.catalogue}, policy {manifest.policy}"
    typer.echo(f"{people}, {place}; {origin}")


def _pipeline(order: "Order", shards: int, settings: "Settings") -> None:
    """Run the scoring pipeline on this machine, and show what it says of the table."""
    from cli.pipeline import fresh, page
    from cli.run_display import RunDisplay
    from cli.screen import console
    from offers.errors import DataError
    from offers.steps import scoring
    from pipelines import local
    from pipelines.compilation import compile_pipeline

    arguments = scoring.arguments(order, shards)
    directory = fresh(settings.home.resolve() / "runs", "score")
    package = compile_pipeline("score", directory / "pipeline.yaml")
    with RunDisplay() as display:
        outcome = local.run(package, arguments, directory, display.update)
    report = page(outcome, "summarise", "report")
    if outcome.mistake:
        raise DataError(outcome.mistake)
    if not outcome.succeeded:
        console.print(f"The run failed, and the fault is ours. Its log: {outcome.log}", style="red")
        raise typer.Exit(1)
    console.print(f"table   {order.output}", soft_wrap=True)
    console.print(f"report  {report}", soft_wrap=True)


def _spark(order: "Order", master: str, settings: "Settings") -> None:
    """Run the order in Spark's environment; what Spark says goes into a log."""
    from cli.pipeline import fresh
    from cli.screen import console
    from offers.steps import scoring, spark_scoring

    ready = scoring.anywhere(order).model_dump_json()
    log = fresh(settings.home.resolve() / "runs", "spark") / "spark.log"
    console.print("Spark starts ...")
    spark_scoring.score_apart(ready, master, log, lambda line: console.print(line, soft_wrap=True))


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
