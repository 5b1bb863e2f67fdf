"""Components of the pipelines that make a bundle, by training or by an update.

OFFERS_PIPELINE_IMAGE names the image with this package; it is read when the pipeline is compiled.
"""

import os
from functools import partial

from kfp.dsl import (
    HTML,
    Artifact,
    ClassificationMetrics,
    Dataset,
    Input,
    Markdown,
    Metrics,
    Model,
    Output,
    component,
)

IMAGE = os.environ.get("OFFERS_PIPELINE_IMAGE", "offers-pipeline-python:dev")
step = partial(component, base_image=IMAGE, install_kfp_package=False)


@step
def ingest(contract: str, source: str, raw: Output[Dataset]) -> None:
    """Fetch the rows as they are."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import data as ingestion
    from offers.steps.execution import execute, say

    provenance = execute(ingestion.ingest, contract, source, Path(raw.path), Settings.from_env(), say)
    raw.metadata.update(provenance.model_dump())


@step
def validate(contract: str, raw: Input[Dataset], typed: Output[Dataset], violations: Output[HTML]) -> int:
    """Type every cell, check every rule, list what is wrong."""
    from pathlib import Path

    from offers.steps import data as ingestion
    from offers.steps.execution import execute, say

    return execute(ingestion.validate, contract, Path(raw.path), Path(typed.path), Path(violations.path), say)


@step
def prepare(contract: str, typed: Input[Dataset], gold: Output[Dataset]) -> None:
    """Refuse rows that break the contract; keep what a model may see."""
    from pathlib import Path

    from offers.steps import data as ingestion
    from offers.steps.execution import execute, say

    data = execute(ingestion.prepare, contract, Path(typed.path), Path(gold.path), say)
    gold.metadata.update(data.model_dump())


@step
def train(contract: str, gold: Input[Dataset], trials: int, seed: int, model: Output[Model]) -> None:
    """Search settings where there is a budget, fit, calibrate."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import training
    from offers.steps.execution import execute, say

    execute(training.train, contract, Path(gold.path), Path(model.path), trials, seed, Settings.from_env(), say)


@step
def update(contract: str, gold: Input[Dataset], parent: str, lag: int, model: Output[Model]) -> None:
    """Keep a bundle's trees, and teach its layer the labels that have come since."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import training
    from offers.steps.execution import execute, say

    execute(training.update, contract, Path(gold.path), parent, lag, Path(model.path), Settings.from_env(), say)


@step
def evaluate(
    contract: str,
    gold: Input[Dataset],
    model: Input[Model],
    champion: str,
    evaluation: Output[Artifact],
    figures: Output[Metrics],
    curves: Output[ClassificationMetrics],
) -> None:
    """Measure on rows that the scoring models had not seen."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import training
    from offers.steps.execution import execute, say

    paths = Path(gold.path), Path(model.path), champion, Path(evaluation.path)
    evaluated, points = execute(training.evaluate, contract, *paths, Settings.from_env(), say)
    for name, figure in evaluated.model.figures.items():
        figures.log_metric(name, figure.value)
    if points.thresholds:
        curves.log_roc_curve(points.false_positive, points.true_positive, points.thresholds)
    curves.log_confusion_matrix(["declined", "accepted"], points.confusion)


@step
def gate(
    contract: str,
    gold: Input[Dataset],
    model: Input[Model],
    evaluation: Input[Artifact],
    verdict: Output[Artifact],
    rules: Output[Markdown],
    report: Output[HTML],
) -> bool:
    """Hold the figures against the contract's rules."""
    from pathlib import Path

    from deployment.account import step_settings
    from offers.reports.training import markdown_gate
    from offers.steps import training
    from offers.steps.execution import execute, say

    paths = Path(gold.path), Path(model.path), Path(evaluation.path)
    written = Path(verdict.path), Path(report.path)
    decision = execute(training.gate, contract, *paths, *written, step_settings(), say)
    Path(rules.path).write_text(markdown_gate(decision))
    return decision.passed


@step
def package(
    contract: str,
    gold: Input[Dataset],
    model: Input[Model],
    evaluation: Input[Artifact],
    verdict: Input[Artifact],
    publish: str,
    bundle: Output[Model],
) -> str:
    """Write the bundle, publish and register it; name the release that the gate alone approves, if there is one."""
    from pathlib import Path

    from deployment.account import step_settings
    from offers.steps import registration, training
    from offers.steps.execution import execute, say

    settings = step_settings()
    candidate = training.Candidate(Path(gold.path), Path(model.path), Path(evaluation.path), Path(verdict.path))
    name = execute(training.package, contract, candidate, Path(bundle.path), publish, settings, say)
    bundle.metadata["bundle"] = name
    return execute(registration.promotable, name, settings)
