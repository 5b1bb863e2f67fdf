"""offers pipeline submit, schedule, status, logs; offers deploy, rollback: what happens on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.data import ContractOption, SourceOption
from cli.pipeline import training_arguments

if TYPE_CHECKING:
    from pipelines.kubeflow import Kubeflow

KubeflowOption = Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; OFFERS_KUBEFLOW_URL by default.")]
ServiceOption = Annotated[str, typer.Option(help="NAMESPACE/NAME of the InferenceService.")]
DeployOption = Annotated[
    str, typer.Option(help="NAMESPACE/NAME of the InferenceService that gets a bundle which passed; none by default.")
]
SmokeOption = Annotated[str, typer.Option(help="Where its predictor answers, for the golden rows.")]
SecondsOption = Annotated[int, typer.Option(min=1, help="To wait for the service to be ready.")]
PublishOption = Annotated[str, typer.Option(help="Where a bundle that passed goes: an s3:// URI.")]


def submit(
    publish: PublishOption,
    contract: ContractOption = "bank-marketing",
    source: SourceOption = "",
    trials: Annotated[int, typer.Option(min=0, help="Search budget; 0 takes the contract's settings.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    champion: Annotated[str, typer.Option(help="The bundle to beat: its s3:// URI.")] = "",
    name: Annotated[str, typer.Option(help="Of the run; a name that is there already starts no second one.")] = "",
    service: DeployOption = "",
    smoke_url: SmokeOption = "",
    kubeflow: KubeflowOption = "",
) -> None:
    """Start the training pipeline on a cluster and print the id of its run."""
    from datetime import UTC, datetime

    known = _name(contract)
    arguments = _arguments(contract, source, publish) | {"trials": trials, "seed": seed, "champion": champion}
    arguments |= {"service": service, "smoke_url": smoke_url}
    name = name or f"train-{known}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    client = _kubeflow(kubeflow)
    with _package() as package:
        run = client.submit(package, arguments, name)
    typer.echo(f"{run.id}  {run.name}  {run.state}")
    typer.echo(client.page(run))


def schedule(
    publish: PublishOption,
    cron: Annotated[str, typer.Option(help="Six fields: second minute hour day month weekday.")],
    contract: ContractOption = "bank-marketing",
    source: SourceOption = "",
    service: DeployOption = "",
    smoke_url: SmokeOption = "",
    kubeflow: KubeflowOption = "",
) -> None:
    """Train again and again on a cluster, one run at a time; replaces the contract's schedule if it has one."""
    name = f"train-{_name(contract)}"
    arguments = _arguments(contract, source, publish) | {"service": service, "smoke_url": smoke_url}
    client = _kubeflow(kubeflow)
    with _package() as package:
        made = client.schedule(package, arguments, name, cron)
    typer.echo(f"{made}  {name}  {cron}")


def status(
    run: Annotated[str, typer.Argument(help="Id of a run; without it the newest ten.")] = "",
    kubeflow: KubeflowOption = "",
) -> None:
    """Tell how runs on a cluster stand; exit code 1 where the run that was asked for has failed."""
    client = _kubeflow(kubeflow)
    if not run:
        for one in client.runs():
            typer.echo(f"{one.id}  {one.state:<10} {one.name}")
        return
    asked = client.run(run)
    typer.echo(f"{asked.id}  {asked.state:<10} {asked.name}")
    for task in asked.tasks:
        typer.echo(f"  {task.state:<10} {task.name}")
    if asked.error:
        typer.echo(f"  {asked.error}", err=True)
    if asked.state == "FAILED":
        raise typer.Exit(1)


def logs(
    run: Annotated[str, typer.Argument(help="Id of a run.")],
    namespace: Annotated[str, typer.Option(help="Where Kubeflow's pods are.")] = "kubeflow",
) -> None:
    """Print what the steps of a run have said, from the cluster that kubectl talks to."""
    from pipelines.pods import logs_of

    for pod, text in logs_of(run, namespace):
        typer.echo(f"== {pod}")
        typer.echo(text)


def _kubeflow(url: str) -> "Kubeflow":
    from offers.settings import Settings
    from pipelines.kubeflow import Kubeflow

    return Kubeflow(url or Settings.from_env().kubeflow)


def _name(contract: str) -> str:
    from offers.contract import contract as contracts

    return contracts.load(contract).name


def _arguments(contract: str, source: str, publish: str) -> dict[str, Any]:
    from offers.errors import StorageError

    if not publish.startswith("s3://"):
        raise StorageError(
            f"--publish {publish!r}: expected s3://bucket/prefix, which the steps on a cluster can reach"
        )
    return training_arguments(contract, source, publish)


def deploy(
    bundle: Annotated[str, typer.Argument(help="s3:// URI of the bundle.")],
    service: ServiceOption = "offers/offers",
    smoke_url: SmokeOption = "http://127.0.0.1:8085",
    seconds: SecondsOption = 600,
) -> None:
    """Point a service on a cluster to a bundle, check its answers, and return where they are wrong."""
    from deployment import deploy as inference
    from offers.settings import Settings

    inference.deploy(bundle, service, smoke_url, seconds, Settings.from_env(), typer.echo)


def rollback(
    service: ServiceOption = "offers/offers",
    smoke_url: SmokeOption = "http://127.0.0.1:8085",
    seconds: SecondsOption = 600,
) -> None:
    """Return a service on a cluster to the bundle before the present one."""
    from deployment import deploy as inference
    from offers.settings import Settings

    inference.roll_back(service, smoke_url, seconds, Settings.from_env(), typer.echo)


@contextmanager
def _package() -> Iterator[Path]:
    import tempfile

    from pipelines.compilation import compile_pipeline

    with tempfile.TemporaryDirectory() as directory:
        yield compile_pipeline("training", Path(directory) / "training.yaml")
