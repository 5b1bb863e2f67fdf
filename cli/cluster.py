"""offers deploy, rollback, status: the service on a cluster that kubectl reaches."""

from typing import Annotated

import typer

from cli.runs import ContextOption

ServiceOption = Annotated[str, typer.Option(help="NAMESPACE/NAME of the InferenceService.")]
SmokeOption = Annotated[
    str, typer.Option(help="Where its predictor answers, for the golden rows; through the cluster's API by default.")
]
SecondsOption = Annotated[int, typer.Option(min=1, help="To wait for the service to be ready.")]


def deploy(
    bundle: Annotated[str, typer.Argument(help="s3:// URI of the bundle.")],
    service: ServiceOption = "offers/offers",
    smoke_url: SmokeOption = "",
    seconds: SecondsOption = 600,
    context: ContextOption = "",
) -> None:
    """Point a service on a cluster to a bundle, check its answers, and return where they are wrong."""
    from deployment import deploy as inference
    from offers.settings import Settings

    inference.deploy(bundle, service, smoke_url, seconds, Settings.from_env(), typer.echo, context)


def rollback(
    service: ServiceOption = "offers/offers",
    smoke_url: SmokeOption = "",
    seconds: SecondsOption = 600,
    context: ContextOption = "",
) -> None:
    """Return a service on a cluster to the bundle before the present one."""
    from deployment import deploy as inference
    from offers.settings import Settings

    inference.roll_back(service, smoke_url, seconds, Settings.from_env(), typer.echo, context)


def status(context: ContextOption = "") -> None:
    """Say how Offers stands on a cluster, and what to do where it is not well. Exit code 2: something is wrong."""
    from deployment.cluster import connect, current_context
    from deployment.snapshot import snapshot
    from deployment.status import judge

    lines = judge(snapshot(connect(context), context or current_context()))
    for line in lines:
        typer.echo(f"{line.part:<9} {line.text}")
        if line.remedy:
            typer.echo(f"{'':<9} -> {line.remedy}")
    if any(line.remedy for line in lines):
        raise typer.Exit(2)
