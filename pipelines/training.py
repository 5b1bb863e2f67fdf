"""The training pipeline: from raw contacts to a bundle that passed the gate."""

from kfp import dsl

from components import deploy as deployment
from components import training as steps
from pipelines.placement import CONFIG, placed

DEPLOY_SECONDS = 600


@dsl.pipeline(
    name="offers-training",
    description="From raw contacts to a gated, calibrated model bundle.",
    pipeline_config=CONFIG,
)
def training(
    contract: str,
    source: str = "",
    trials: int = 0,
    seed: int = 0,
    champion: str = "",
    publish: str = "",
    service: str = "",
    smoke_url: str = "",
) -> bool:
    """Train, evaluate, gate, package and, where a service is named, deploy.

    Parameters
    ----------
    contract : name of a shipped contract, or the text of one
    source : where the rows are, instead of the contract's own source
    trials : budget of the hyperparameter search; 0 takes the contract's settings
    seed : of everything random
    champion : path or URI of the bundle to beat
    publish : directory or s3:// URI below which a bundle that passed is stored under its name
    service : NAMESPACE/NAME of the InferenceService that gets a bundle which passed; none gets it by default
    smoke_url : where the predictor of that service answers

    Returns
    -------
    bool
        the gate's verdict
    """
    raw = placed(steps.ingest(contract=contract, source=source)).outputs["raw"]
    typed = placed(steps.validate(contract=contract, raw=raw)).outputs["typed"]
    gold = placed(steps.prepare(contract=contract, typed=typed)).outputs["gold"]
    model = placed(steps.train(contract=contract, gold=gold, trials=trials, seed=seed), minutes=240).outputs["model"]
    measured = placed(steps.evaluate(contract=contract, gold=gold, model=model, champion=champion))
    evaluation = measured.outputs["evaluation"]
    verdict = placed(steps.gate(contract=contract, gold=gold, model=model, evaluation=evaluation))
    with dsl.If(verdict.outputs["Output"] == True, name="passed"):  # noqa: E712 - builds a condition
        bundle = placed(
            steps.package(
                contract=contract,
                gold=gold,
                model=model,
                evaluation=evaluation,
                verdict=verdict.outputs["verdict"],
                publish=publish,
            )
        ).outputs["Output"]
        with dsl.If(service != "", name="served"):
            placed(
                deployment.deploy(
                    bundle=bundle, publish=publish, service=service, smoke_url=smoke_url, seconds=DEPLOY_SECONDS
                )
            )
    return verdict.outputs["Output"]
