"""offers pipeline submit, schedule, schedules, unschedule, list, status, logs: runs on a cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.data import ContractOption, SourceOption

if TYPE_CHECKING:
    from pipelines.kubeflow import ClusterRun, Kubeflow
    from pipelines.logs import StepLog

KubeflowOption = Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; OFFERS_KUBEFLOW_URL by default.")]
DeployOption = Annotated[
    str, typer.Option(help="NAMESPACE/NAME of the InferenceService that gets a bundle which passed; none by default.")
]
SmokeOption = Annotated[str, typer.Option(help="Where its predictor answers, for the golden rows.")]
PublishOption = Annotated[str, typer.Option(help="Where a bundle that passed goes: an s3:// URI.")]
PipelineArgument = Annotated[str, typer.Argument(help="training, or another pipeline of 'offers pipeline compile'.")]
SetOption = Annotated[
    list[str], typer.Option("--set", help="NAME=VALUE: any argument of the pipeline; may be given again.")
]
ContextOption = Annotated[
    str, typer.Option(envvar="OFFERS_CONTEXT", help="Context of kubectl; the present one by default.")
]
NamespaceOption = Annotated[str, typer.Option(help="Where Kubeflow's pods are.")]

_PLACES = ("publish", "champion", "parent", "bundle", "scored", "outcomes", "store")
"""Arguments that name a place, which pods have to reach."""
_TIME = "%Y-%m-%d %H:%M:%S"


def submit(
    pipeline: PipelineArgument = "training",
    publish: PublishOption = "",
    contract: ContractOption = "bank-marketing",
    source: SourceOption = "",
    trials: Annotated[int, typer.Option(min=0, help="Search budget; 0 takes the contract's settings.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    champion: Annotated[str, typer.Option(help="The bundle to beat: its s3:// URI.")] = "",
    service: DeployOption = "",
    smoke_url: SmokeOption = "",
    more: SetOption = [],  # noqa: B006 - typer reads it, and makes a new one
    name: Annotated[str, typer.Option(help="Of the run; a name that is there already starts no second one.")] = "",
    kubeflow: KubeflowOption = "",
) -> None:
    """Start a pipeline on a cluster and print the id of its run."""
    from datetime import UTC, datetime

    given = {"publish": publish, "source": source, "trials": trials, "seed": seed, "champion": champion}
    given |= {"service": service, "smoke_url": smoke_url}
    short, arguments = _arguments(pipeline, contract, given, more)
    client = _kubeflow(kubeflow)
    with _package(pipeline) as package:
        run = client.submit(package, arguments, name or f"{short}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    typer.echo(f"{run.id}  {run.name}  {run.state}")
    typer.echo(client.page(run))


def schedule(
    cron: Annotated[str, typer.Option(help="Six fields: second minute hour day month weekday.")],
    pipeline: PipelineArgument = "training",
    publish: PublishOption = "",
    contract: ContractOption = "bank-marketing",
    source: SourceOption = "",
    service: DeployOption = "",
    smoke_url: SmokeOption = "",
    more: SetOption = [],  # noqa: B006
    kubeflow: KubeflowOption = "",
) -> None:
    """Run a pipeline again and again on a cluster, one run at a time; replaces its schedule for the contract."""
    given = {"publish": publish, "source": source, "service": service, "smoke_url": smoke_url}
    name, arguments = _arguments(pipeline, contract, given, more)
    client = _kubeflow(kubeflow)
    with _package(pipeline) as package:
        begun = client.schedule(package, arguments, name, cron)
    typer.echo(f"{begun}  {name}  {cron}")


def schedules(kubeflow: KubeflowOption = "") -> None:
    """List what runs by the clock on a cluster."""
    for one in _kubeflow(kubeflow).schedules():
        typer.echo(f"{one.name:<32} {one.cron:<20} since {_time(one.created)}  {one.id}")


def unschedule(
    name: Annotated[str, typer.Argument(help="Of the schedule, as 'offers pipeline schedules' tells it.")],
    kubeflow: KubeflowOption = "",
) -> None:
    """End a schedule; a run of it that is under way goes on, and what its runs have said stays."""
    _kubeflow(kubeflow).unschedule(name)
    typer.echo(f"{name} begins no further run")


def list_(
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=200, help="How many.")] = 10,
    kubeflow: KubeflowOption = "",
) -> None:
    """List the newest runs on a cluster, the newest first."""
    for run in _kubeflow(kubeflow).runs(number):
        typer.echo(f"{_time(run.created):<19}  {_seconds(run):>7}  {run.state:<9}  {run.name}  {run.id}")


def status(
    run: Annotated[str, typer.Argument(help="Name or id of a run.")],
    kubeflow: KubeflowOption = "",
    namespace: NamespaceOption = "kubeflow",
    context: ContextOption = "",
) -> None:
    """Show the steps of a run on a cluster. Exit code 1: it has failed or was stopped; 3: its gate refused."""
    client = _kubeflow(kubeflow)
    asked = client.run(run)
    typer.echo(f"{asked.name}  {asked.state}  began {_time(asked.created)}, {_seconds(asked)}  {asked.id}")
    for step in asked.steps:
        seconds = "" if step.seconds is None else f"{step.seconds:.0f} s"
        tries = f"  {step.tries} tries" if step.tries > 1 else ""
        began = step.began.astimezone().strftime("%H:%M:%S") if step.began else ""
        typer.echo(f"  {step.name:<12} {step.state:<8} {began:>8} {seconds:>7}{tries}")
    if reason := _reason(asked, namespace, context):
        typer.echo(f"  {reason}", err=asked.state == "failed")
    typer.echo(client.page(asked))
    if asked.state in ("failed", "stopped"):
        raise typer.Exit(1)
    if asked.state == "refused":
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

    asked = _kubeflow(kubeflow).run(run)
    names = [one.name for one in asked.steps]
    if step and step not in names:
        raise ServiceError(f"step {step!r}: run {asked.name} has {', '.join(names)}")
    for log in _logs(asked, namespace, context, [step] if step else names):
        typer.echo(f"== {log.step}")
        for line in log.text.splitlines() if raw else log.lines:
            typer.echo(line)


def _kubeflow(url: str) -> "Kubeflow":
    from offers.settings import Settings
    from pipelines.kubeflow import Kubeflow

    return Kubeflow(url or Settings.from_env().kubeflow)


def _arguments(pipeline: str, contract: str, given: dict[str, Any], more: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """What runs of a pipeline for a contract are called, and their arguments."""
    from cli.pipeline import training_arguments
    from offers.contract import contract as contracts
    from offers.errors import ServiceError, StorageError
    from pipelines.compilation import PIPELINES, arguments_of

    short = {"training": "train", "monitoring": "monitor"}.get(pipeline, pipeline)
    name = f"{short}-{contracts.load(contract).name}"
    for pair in more:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ServiceError(f"--set {pair!r}: expected NAME=VALUE")
        given[key] = value
    if pipeline in PIPELINES and "contract" in PIPELINES[pipeline].component_spec.inputs:
        given |= training_arguments(contract, given["source"], given["publish"])
        if not given["publish"]:
            raise StorageError("--publish: expected s3://bucket/prefix, where a bundle that passed goes, got nothing")
    arguments = arguments_of(pipeline, given)
    for key in _PLACES:
        if not str(arguments.get(key, "s3://")).startswith("s3://"):
            raise StorageError(
                f"--{key} {arguments[key]!r}: expected s3://bucket/prefix, which the steps on a cluster can reach"
            )
    return name, arguments


def _reason(run: "ClusterRun", namespace: str, context: str) -> str:
    """One sentence on a run that has not ended as it should; empty of any other."""
    if run.state == "stopped":
        return "somebody stopped it"
    if run.lost_at:
        return f"Kubeflow lost it: its own task {run.lost_at} failed, no step of ours; only a new run helps"
    failed = next((step.name for step in run.steps if step.state == "failed"), "")
    asked = failed or ("gate" if run.state == "refused" else "")
    if not asked:
        return run.error
    from offers.errors import OffersError

    try:
        logs = _logs(run, namespace, context, [asked])
    except OffersError as error:
        return f"{asked}: why can't be told, as {error}"
    return f"{asked}: {logs[-1].reason}"


def _logs(run: "ClusterRun", namespace: str, context: str, steps: Sequence[str]) -> "list[StepLog]":
    """Logs of steps in the order of the run; those whose pods are gone come from what Kubeflow keeps."""
    from kubernetes import client as kubernetes

    from deployment.access import store_access
    from deployment.cluster import connect
    from offers.errors import OffersError, ServiceError
    from offers.settings import Settings
    from offers.store.store import open_store
    from pipelines.logs import kept_logs, pod_logs

    problems, found = list[str](), list["StepLog"]()
    try:
        found = [
            log for log in pod_logs(run.id, namespace, kubernetes.CoreV1Api(connect(context))) if log.step in steps
        ]
    except OffersError as error:
        problems.append(str(error))
    begun = {step.name for step in run.steps if step.began is not None and step.name in steps}
    if begun - {log.step for log in found}:
        try:
            with store_access(lambda: connect(context), "offers", Settings.from_env()) as reached:
                store = open_store(run.root, reached)
                kept = kept_logs(run.id, run.pipeline, store)
            found += [log for log in kept if log.step in begun - {log.step for log in found}]
        except OffersError as error:
            problems.append(str(error))
    if not found:
        reasons = "; ".join(problems) or "its steps have not begun, or their logs are gone"
        raise ServiceError(f"run {run.name} has no logs of {', '.join(steps)}: {reasons}")
    return sorted(found, key=lambda log: steps.index(log.step))


def _time(moment: Any) -> str:
    return moment.astimezone().strftime(_TIME) if moment else ""


def _seconds(run: "ClusterRun") -> str:
    from datetime import UTC, datetime

    if run.created is None:
        return ""
    seconds = ((run.finished or datetime.now(UTC)) - run.created).total_seconds()
    return f"{seconds:.0f} s"


@contextmanager
def _package(pipeline: str) -> Iterator[Path]:
    import tempfile

    from pipelines.compilation import compile_pipeline

    with tempfile.TemporaryDirectory() as directory:
        yield compile_pipeline(pipeline, Path(directory) / f"{pipeline}.yaml")
