"""offers deploy, rollback, status: the service on a cluster that kubectl reaches."""

from pathlib import Path
from typing import Annotated

import typer

from cli.key import KeyOption, key_file
from cli.runs import ContextOption

ServiceOption = Annotated[str, typer.Option(help="NAMESPACE/NAME of the InferenceService.")]
SmokeOption = Annotated[
    str, typer.Option(help="Where its predictor answers, for the golden rows; through the cluster's API by default.")
]
SecondsOption = Annotated[int, typer.Option(min=1, help="To wait for the service to be ready.")]


def deploy(
    release: Annotated[str, typer.Argument(help="A release to promote, or how its name begins.")] = "",
    service: ServiceOption = "offers/offers",
    smoke_url: SmokeOption = "",
    seconds: SecondsOption = 600,
    context: ContextOption = "",
    key: KeyOption = "",
) -> None:
    """Have a service on a cluster serve what the ledger says: the champion, or a release that is promoted by this.

    A promotion that was begun is ended: by the release's answers, or by a return to the champion. A canary is followed
    until its last step. Exit code 3: nobody has promoted a release yet.
    """
    from deployment import releases
    from offers.settings import Settings

    settings, target = Settings.from_env(), releases.Target(service, smoke_url, seconds, context)
    if release:
        releases.promote(release, target, settings, typer.echo, _path(key))
    elif not releases.serve(target, settings, typer.echo, _path(key)):
        typer.echo("nobody has promoted a release yet: 'offers deploy RELEASE' does it")
        raise typer.Exit(3)


def rollback(
    service: ServiceOption = "offers/offers",
    smoke_url: SmokeOption = "",
    seconds: SecondsOption = 600,
    context: ContextOption = "",
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")] = "",
    key: KeyOption = "",
) -> None:
    """Return a service on a cluster to the release that served before; the present one is withdrawn."""
    from deployment import releases
    from offers.settings import Settings

    target = releases.Target(service, smoke_url, seconds, context)
    releases.take_back(reason, target, Settings.from_env(), typer.echo, _path(key))


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


def _path(key: str) -> Path | None:
    from offers.settings import Settings

    return key_file(key, Settings.from_env())
