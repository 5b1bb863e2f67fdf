"""offers pipeline list, status, logs: runs on a cluster, how they stand and what their steps have said."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipelines.kubeflow import ClusterRun, Kubeflow
    from pipelines.logs import StepLog

KubeflowOption = Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; OFFERS_KUBEFLOW_URL by default.")]
ContextOption = Annotated[
    str, typer.Option(envvar="OFFERS_CONTEXT", help="Context of kubectl; the present one by default.")
]
NamespaceOption = Annotated[str, typer.Option(help="Where Kubeflow's pods are.")]

_TIME = "%Y-%m-%d %H:%M:%S"


def list_(
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=200, help="How many.")] = 10,
    kubeflow: KubeflowOption = "",
) -> None:
    """List the newest runs on a cluster, the newest first."""
    for run in connected(kubeflow).runs(number):
        typer.echo(f"{moment(run.created):<19}  {_seconds(run):>7}  {run.state:<9}  {run.name}  {run.id}")


def status(
    run: Annotated[str, typer.Argument(help="Name or id of a run.")],
    kubeflow: KubeflowOption = "",
    namespace: NamespaceOption = "kubeflow",
    context: ContextOption = "",
) -> None:
    """Show the steps of a run on a cluster. Exit code 1: it has failed or was stopped; 3: its gate refused."""
    client = connected(kubeflow)
    state = client.run(run)
    typer.echo(f"{state.name}  {state.state}  began {moment(state.created)}, {_seconds(state)}  {state.id}")
    for step in state.steps:
        seconds = "" if step.seconds is None else f"{step.seconds:.0f} s"
        tries = f"  {step.tries} tries" if step.tries > 1 else ""
        began = step.began.astimezone().strftime("%H:%M:%S") if step.began else ""
        typer.echo(f"  {step.name:<12} {step.state:<8} {began:>8} {seconds:>7}{tries}")
    if reason := _reason(state, namespace, context):
        typer.echo(f"  {reason}", err=state.state == "failed")
    typer.echo(client.page(state))
    if state.state in ("failed", "stopped"):
        raise typer.Exit(1)
    if state.state == "refused":
        raise typer.Exit(3)


def logs(
    run: Annotated[str, typer.Argument(help="Name or id of a run.")],
    step: Annotated[str, typer.Option(help="One step alone.")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="With what Kubeflow and Argo write around it.")] = False,
    kubeflow: KubeflowOption = "",
    namespace: NamespaceOption = "kubeflow",
    context: ContextOption = "",
) -> None:
    """Print what the steps of a run have said, from their pods, or from what Kubeflow has kept of them."""
    from offers.errors import ServiceError

    state = connected(kubeflow).run(run)
    names = [one.name for one in state.steps]
    if step and step not in names:
        raise ServiceError(f"step {step!r}: run {state.name} has {', '.join(names)}")
    for log in _logs(state, namespace, context, [step] if step else names):
        typer.echo(f"== {log.step}")
        for line in log.text.splitlines() if raw else log.lines:
            typer.echo(line)


def connected(url: str) -> "Kubeflow":
    """Connect to Kubeflow Pipelines at an address, by default that of the environment."""
    from offers.settings import Settings
    from pipelines.kubeflow import Kubeflow

    return Kubeflow(url or Settings.from_env().kubeflow)


def _reason(run: "ClusterRun", namespace: str, context: str) -> str:
    """Explain in a sentence why a run did not succeed; empty for any other run."""
    if run.state == "stopped":
        return "somebody stopped it"
    if run.lost_at:
        return f"Kubeflow lost it: its own task {run.lost_at} failed, no step of ours; only a new run helps"
    failure = next((step.name for step in run.steps if step.state == "failed"), "")
    culprit = failure or ("gate" if run.state == "refused" else "")
    if not culprit:
        return run.error
    from offers.errors import OffersError

    try:
        logs = _logs(run, namespace, context, [culprit])
    except OffersError as error:
        return f"{culprit}: why can't be told, as {error}"
    return f"{culprit}: {logs[-1].reason}"


def _logs(run: "ClusterRun", namespace: str, context: str, steps: Sequence[str]) -> "list[StepLog]":
    """Read the steps' logs in the order of the run; where pods are gone, from Kubeflow's store."""
    from kubernetes import client as kubernetes

    from deployment.access import store_access
    from deployment.cluster import connect
    from offers.errors import OffersError, ServiceError
    from offers.settings import Settings
    from offers.store.store import open_store
    from pipelines.logs import kept_logs, pod_logs

    problems, step_logs = list[str](), list["StepLog"]()
    try:
        step_logs = [
            log for log in pod_logs(run.id, namespace, kubernetes.CoreV1Api(connect(context))) if log.step in steps
        ]
    except OffersError as error:
        problems.append(str(error))
    names = {step.name for step in run.steps if step.began is not None and step.name in steps}
    if names - {log.step for log in step_logs}:
        try:
            with store_access(lambda: connect(context), "offers", Settings.from_env()) as reached:
                store = open_store(run.root, reached)
                old_logs = kept_logs(run.id, run.pipeline, store)
            missing = names - {log.step for log in step_logs}
            step_logs += [log for log in old_logs if log.step in missing]
        except OffersError as error:
            problems.append(str(error))
    if not step_logs:
        reasons = "; ".join(problems) or "its steps have not begun, or their logs are gone"
        raise ServiceError(f"run {run.name} has no logs of {', '.join(steps)}: {reasons}")
    return sorted(step_logs, key=lambda log: steps.index(log.step))


def moment(time: Any) -> str:
    """Write a moment in local time; empty where there is none."""
    return time.astimezone().strftime(_TIME) if time else ""


def _seconds(run: "ClusterRun") -> str:
    from datetime import UTC, datetime

    if run.created is None:
        return ""
    seconds = ((run.finished or datetime.now(UTC)) - run.created).total_seconds()
    return f"{seconds:.0f} s"
