"""Components of the monitoring pipeline."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.training import step


@step
def collect(
    bundle: str, scored: str, outcomes: str, since: str, until: str, as_of: str, decisions: Output[Dataset]
) -> None:
    """Read scored rows and outcomes, join them, count what is wrong with them."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import monitoring
    from offers.steps.execution import execute, say

    where = bundle, scored, outcomes, (since, until, as_of)
    execute(monitoring.collect, *where, Path(decisions.path), Settings.from_env(), say)


@step
def inspect(bundle: str, decisions: Input[Dataset], findings: Output[Artifact], figures: Output[Metrics]) -> None:
    """Hold windows of rows against the bundle's reference, and propensities against mature labels."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import monitoring
    from offers.steps.execution import execute, say

    findings_record = execute(
        monitoring.inspect, bundle, Path(decisions.path), Path(findings.path), Settings.from_env(), say
    )
    for name, value in monitoring.figures(findings_record).items():
        figures.log_metric(name, value)


@step
def judge(
    bundle: str,
    decisions: Input[Dataset],
    findings: Input[Artifact],
    store: str,
    verdict: Output[Artifact],
    report: Output[HTML],
) -> bool:
    """Decide by two of three signals, write the report, leave a status; true where retraining is wanted."""
    from pathlib import Path

    from offers.settings import Settings
    from offers.steps import monitoring
    from offers.steps.execution import execute, say

    paths = Path(decisions.path), Path(findings.path), Path(verdict.path), Path(report.path)
    judgement = execute(monitoring.judge, bundle, *paths, store, Settings.from_env(), say)
    return judgement.action == "retrain"


@step
def request_retraining(verdict: Input[Artifact], trigger: str) -> None:
    """Ask the trigger service for a new model."""
    from pathlib import Path

    from offers.steps import monitoring
    from offers.steps.execution import execute, say

    execute(monitoring.request_retraining, Path(verdict.path), trigger, say)
