"""The scoring pipeline: every customer of a table, in shards, and a report on the result."""

from kfp import dsl

from components import scoring as steps
from pipelines.placement import CONFIG, placed, with_source_secrets

PARALLEL = 8
"""Shards that run at once; the others wait, so that a night's scoring leaves room for what else a cluster does."""


@dsl.pipeline(
    name="offers-score",
    description="Scores every customer of a table with one bundle and one catalogue.",
    pipeline_config=CONFIG,
)
def score(
    bundle: str,
    customers: str,
    output: str,
    catalogue: str = "",
    shards: int = 4,
    options: str = "",
) -> None:
    """Plan the shards, score them, and summarise the table.

    A run that was lost goes on where it was if it is started again with the same arguments.

    Parameters
    ----------
    bundle : path or URI of the bundle that scores; champion:CONTRACT is the release that serves when the run begins
    customers : Delta table, file, object or database with a row for each customer
    output : the scored table: a Delta table, or a directory that every step can reach
    catalogue : name of a shipped catalogue, or the text of one; by default the one of the bundle's contract
    shards : how many processes share the customers
    options : YAML text with what else `offers score` takes, such as {pairs: true, customer: iban}
    """
    orders = with_source_secrets(
        placed(
            steps.plan(
                bundle=bundle, customers=customers, output=output, catalogue=catalogue, shards=shards, options=options
            )
        )
    )
    with dsl.ParallelFor(orders.output, name="shards", parallelism=PARALLEL) as order:
        shard = with_source_secrets(placed(steps.score(order=order), minutes=240))
    placed(steps.summarise(orders=orders.output, customers=dsl.Collected(shard.output)))
