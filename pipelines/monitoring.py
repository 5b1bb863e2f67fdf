"""The monitoring pipeline: from a period's decisions and outcomes to a report, a verdict, and a request to retrain."""

from kfp import dsl

from components import monitoring as steps
from pipelines.placement import CONFIG, placed, signing


@dsl.pipeline(
    name="offers-monitoring",
    description="Holds live decisions against the bundle that made them.",
    pipeline_config=CONFIG,
)
def monitoring(
    bundle: str,
    scored: str,
    store: str,
    outcomes: str = "",
    since: str = "",
    until: str = "",
    as_of: str = "",
    trigger: str = "",
) -> bool:
    """Look at a period, report, and ask for a new model where two of three signals say so.

    No step is ever taken from the cache: rows that have come in since are not in its key.

    Parameters
    ----------
    bundle : path or URI of the bundle that made the decisions
    scored : Parquet file, directory or s3:// URI of scored rows
    store : directory or s3:// URI in which the run leaves its status and report, under monitoring/<contract>/
    outcomes : the same of outcomes; without them performance is not judged
    since : a moment in UTC such as 2024-05-31, or a span before `until` such as 7d; empty for all rows
    until : a moment; empty for `as_of`
    as_of : outcomes that came later do not count; empty for now
    trigger : URL of the service that takes requests for a new model; without it the verdict is only reported

    Returns
    -------
    bool
        whether a new model is wanted
    """
    collection = steps.collect(bundle=bundle, scored=scored, outcomes=outcomes, since=since, until=until, as_of=as_of)
    decisions = collection.outputs["decisions"]
    inspection = steps.inspect(bundle=bundle, decisions=decisions)
    judgement = steps.judge(
        bundle=bundle,
        decisions=decisions,
        findings=inspection.outputs["findings"],
        store=store,
    )
    with dsl.If(judgement.outputs["Output"] == True, name="retraining-wanted"):  # noqa: E712 - builds a condition
        request = steps.request_retraining(verdict=judgement.outputs["verdict"], trigger=trigger)
    for task in (collection, inspection, judgement, request):
        placed(task)
    signing(request)
    return judgement.outputs["Output"]
