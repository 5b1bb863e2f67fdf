"""The update pipeline: the labels that have come since, learnt by the layer beside the trees that serve."""

from kfp import dsl

from components import training as steps
from pipelines.candidate import judged, prepared
from pipelines.placement import CONFIG, placed


@dsl.pipeline(
    name="offers-update",
    description="From newer contacts to a gated bundle with the same trees and a layer that has learnt them.",
    pipeline_config=CONFIG,
)
def update(
    contract: str,
    parent: str,
    source: str = "",
    lag: int = -1,
    publish: str = "",
    service: str = "",
    smoke_url: str = "",
) -> bool:
    """Update, evaluate against the parent, gate, package, register; promote where the gate alone approves.

    Parameters
    ----------
    contract : name of a shipped contract, or the text of one
    parent : path or URI of the bundle whose trees are kept, the champion to meet
    source : where the rows are, instead of the contract's own source; they begin with the parent's
    lag : rows that were scored after the newest of these, whose labels are not known yet; -1 for as many as come within
        the contract's `matures_after_days`, at the pace of the newest whole month
    publish : directory or s3:// URI below which a bundle that passed is stored under its name
    service : NAMESPACE/NAME of the InferenceService to which a release is rolled out; none by default
    smoke_url : where the predictor of that service answers

    Returns
    -------
    bool
        the gate's verdict
    """
    gold = prepared(contract, source)
    model = placed(steps.update(contract=contract, gold=gold, parent=parent, lag=lag)).outputs["model"]
    return judged(contract, gold, model, parent, publish, service, smoke_url)
