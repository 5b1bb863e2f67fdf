"""The training pipeline: from raw contacts to a bundle that passed the gate."""

from kfp import dsl

from components import training as steps
from pipelines.candidate import judged, prepared
from pipelines.placement import CONFIG, placed


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
    """Train, evaluate, gate, package, register; promote where the gate alone approves.

    Parameters
    ----------
    contract : name of a shipped contract, or the text of one
    source : where the rows are, instead of the contract's own source
    trials : budget of the hyperparameter search; 0 takes the contract's settings
    seed : of everything random
    champion : path or URI of the bundle to beat
    publish : directory or s3:// URI below which a bundle that passed is stored under its name
    service : NAMESPACE/NAME of the InferenceService to which a release is rolled out; none by default
    smoke_url : where the predictor of that service answers

    Returns
    -------
    bool
        the gate's verdict
    """
    gold = prepared(contract, source)
    model = placed(steps.train(contract=contract, gold=gold, trials=trials, seed=seed), minutes=240).outputs["model"]
    return judged(contract, gold, model, champion, publish, service, smoke_url)
