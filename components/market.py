"""Components of the pipeline of a market.

OFFERS_MARKET_IMAGE names their image, which has the libraries of towers, too; it is read when the pipeline is compiled.
"""

import os
from functools import partial

from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output, component

IMAGE = os.environ.get("OFFERS_MARKET_IMAGE", "offers-market-python:dev")
step = partial(component, base_image=IMAGE, install_kfp_package=False)


@step
def ingest(market: str, source: str, tables: Output[Dataset]) -> None:
    """Bring the tables of users, products and interactions."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import market as steps
    from offers.steps.execution import execute, say

    execute(steps.import_tables, market, source, Path(tables.path), Settings.from_env(), say)


@step
def features(market: str, tables: Input[Dataset], views: Output[Dataset]) -> int:
    """Join each view with what was known at its moment."""
    from pathlib import Path

    from offers.steps import market as steps
    from offers.steps.execution import execute, say

    return execute(steps.write_features, market, Path(tables.path), Path(views.path), say)


@step
def towers(market: str, views: Input[Dataset], seed: int, model: Output[Model]) -> None:
    """Fit the two towers on the older views."""
    from pathlib import Path

    from offers.steps import market as steps
    from offers.steps.execution import execute, say

    execute(steps.train_towers, market, Path(views.path), Path(model.path), seed, say)


@step
def ranker(market: str, views: Input[Dataset], candidates: Input[Model], seed: int, model: Output[Model]) -> None:
    """Fit the ranker on the older views, with the affinity of the towers."""
    from pathlib import Path

    from offers.steps import market as steps
    from offers.steps.execution import execute, say

    execute(steps.train_ranker, market, Path(views.path), Path(candidates.path), Path(model.path), seed, say)


@step
def evaluate(
    market: str,
    tables: Input[Dataset],
    views: Input[Dataset],
    candidates: Input[Model],
    model: Input[Model],
    seed: int,
    evaluation: Output[Artifact],
    figures: Output[Metrics],
) -> None:
    """Judge by later views, beside simpler ways."""
    from pathlib import Path

    from offers.steps import market as steps
    from offers.steps.execution import execute, say

    inputs = steps.Inputs(Path(tables.path), Path(views.path), Path(candidates.path), Path(model.path))
    result = execute(steps.evaluate_market, market, inputs, Path(evaluation.path), seed, say)
    for method in result.methods:
        for name, figure in method.figures.items():
            figures.log_metric(f"{method.name}, {name}", figure.value)
    figures.log_metric("ranker, log-loss", result.ranker.log_loss)
    figures.log_metric("ranker, ECE", result.ranker.ece)


@step
def gate(
    market: str,
    evaluation: Input[Artifact],
    verdict: Output[Artifact],
    rules: Output[Markdown],
    report: Output[HTML],
) -> bool:
    """Say whether towers find the candidates, or the ranker scores all products."""
    from pathlib import Path

    from offers.reports.training import markdown_gate
    from offers.steps import market as steps
    from offers.steps.execution import execute, say

    written = Path(verdict.path), Path(report.path)
    decision = execute(steps.gate_market, market, Path(evaluation.path), *written, say)
    Path(rules.path).write_text(markdown_gate(decision))
    return decision.passed


@step
def package(
    market: str,
    views: Input[Dataset],
    evaluation: Input[Artifact],
    verdict: Input[Artifact],
    publish: str,
    seed: int,
    bundle: Output[Model],
) -> str:
    """Fit on all views, write the bundle, publish and register it."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import market as steps
    from offers.steps.execution import execute, say

    places = Path(views.path), Path(evaluation.path), Path(bundle.path)
    name = execute(steps.package_market, market, *places, publish, seed, Settings.from_env(), say)
    bundle.metadata["bundle"] = name
    return name


@step
def load(market: str, tables: Input[Dataset], online: str) -> int:
    """Put the users online."""
    from pathlib import Path

    from offers.steps import market as steps
    from offers.steps.execution import execute, say

    return execute(steps.load_users, market, Path(tables.path), online, say)
