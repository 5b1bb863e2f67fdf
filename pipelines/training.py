"""The training pipeline: from raw contacts to a bundle that passed the gate."""

from kfp import dsl

from components import training as steps


@dsl.pipeline(name="offers-training", description="From raw contacts to a gated, calibrated model bundle.")
def training(
    contract: str, source: str = "", trials: int = 0, seed: int = 0, champion: str = "", publish: str = ""
) -> bool:
    """Train, evaluate, gate and package.

    Parameters
    ----------
    contract : name of a shipped contract, or the text of one
    source : where the rows are, instead of the contract's own source
    trials : budget of the hyperparameter search; 0 takes the contract's settings
    seed : of everything random
    champion : path or URI of the bundle to beat
    publish : directory or s3:// URI below which a bundle that passed is stored under its name

    Returns
    -------
    bool
        the gate's verdict
    """
    raw = steps.ingest(contract=contract, source=source)
    checked = steps.validate(contract=contract, raw=raw.outputs["raw"])
    gold = steps.prepare(contract=contract, typed=checked.outputs["typed"]).outputs["gold"]
    model = steps.train(contract=contract, gold=gold, trials=trials, seed=seed).outputs["model"]
    measured = steps.evaluate(contract=contract, gold=gold, model=model, champion=champion)
    evaluation = measured.outputs["evaluation"]
    verdict = steps.gate(contract=contract, gold=gold, model=model, evaluation=evaluation)
    with dsl.If(verdict.outputs["Output"] == True, name="passed"):  # noqa: E712 - builds a condition
        steps.package(
            contract=contract,
            gold=gold,
            model=model,
            evaluation=evaluation,
            verdict=verdict.outputs["verdict"],
            publish=publish,
        )
    return verdict.outputs["Output"]
