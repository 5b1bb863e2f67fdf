"""The common parts of pipelines that make a bundle: the steps on data before the candidate, the gate after it."""

from typing import Any

from kfp import dsl

from components import promotion
from components import training as steps
from pipelines.placement import placed, registering, with_source_secrets

ROLLOUT_SECONDS = 600


def prepared(contract: str, source: str) -> Any:
    """Add the steps on data to a pipeline; returns the rows to learn from."""
    raw = with_source_secrets(placed(steps.ingest(contract=contract, source=source))).outputs["raw"]
    typed = placed(steps.validate(contract=contract, raw=raw)).outputs["typed"]
    return placed(steps.prepare(contract=contract, typed=typed)).outputs["gold"]


def judged(contract: str, gold: Any, model: Any, champion: str, publish: str, service: str, smoke_url: str) -> Any:
    """Add evaluation and gate to a pipeline, and what follows where the gate passes; returns the verdict.

    That is the packaging, which registers a release, and its promotion where the gate alone approves it.
    """
    task = placed(steps.evaluate(contract=contract, gold=gold, model=model, champion=champion))
    evaluation = task.outputs["evaluation"]
    verdict = registering(placed(steps.gate(contract=contract, gold=gold, model=model, evaluation=evaluation)))
    with dsl.If(verdict.outputs["Output"] == True, name="passed"):  # noqa: E712 - builds a condition
        package = steps.package(
            contract=contract,
            gold=gold,
            model=model,
            evaluation=evaluation,
            verdict=verdict.outputs["verdict"],
            publish=publish,
        )
        release = registering(placed(package)).outputs["Output"]
        with dsl.If(service != "", name="served"), dsl.If(release != "", name="automatic"):
            task = promotion.promote(release=release, service=service, smoke_url=smoke_url, seconds=ROLLOUT_SECONDS)
            registering(placed(task))
    return verdict.outputs["Output"]
