"""Components of the scoring pipeline."""

from kfp.dsl import HTML, Artifact, Metrics, Output

from components.training import step


@step
def plan(bundle: str, customers: str, output: str, catalogue: str, shards: int, options: str) -> list[str]:
    """Check bundle, catalogue and customers, and write an order for each shard."""
    from offers.settings import Settings
    from offers.steps import scoring
    from offers.steps.execution import execute, say

    places = bundle, customers, output, catalogue
    return execute(scoring.plan, places, shards, options, Settings.from_env(), say)


@step
def score(order: str) -> int:
    """Score a shard, and count its customers."""
    from offers.steps import scoring
    from offers.steps.execution import execute, say

    return execute(scoring.score_shard, order, say)


@step
def summarise(
    orders: list[str], customers: list[int], summary: Output[Artifact], report: Output[HTML], figures: Output[Metrics]
) -> None:
    """Count the table, and compare it with the bundle's reference."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import scoring
    from offers.steps.execution import execute, say

    paths = Path(summary.path), Path(report.path)
    volumes = execute(scoring.summarise, orders, customers, *paths, Settings.from_env(), say)
    figures.log_metric("customers", volumes.customers)
    figures.log_metric("customers with an offer", volumes.answered)
    if volumes.psi is not None:
        figures.log_metric("psi", volumes.psi)
