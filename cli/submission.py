"""offers pipeline submit, schedule, schedules, unschedule: start pipelines on a cluster, once or by the clock."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.data import ContractOption, SourceOption
from cli.runs import KubeflowOption, connected, moment

DeployOption = Annotated[
    str,
    typer.Option(
        help="NAMESPACE/NAME of the InferenceService that gets a release that the gate alone approves; none by default."
    ),
]
SmokeOption = Annotated[str, typer.Option(help="Where its predictor answers, for the golden rows.")]
PublishOption = Annotated[str, typer.Option(help="Where a bundle that passed goes: an s3:// URI.")]
PipelineArgument = Annotated[
    str, typer.Argument(help="training, monitoring, or another; a name that is none lists them.")
]
SetOption = Annotated[
    list[str], typer.Option("--set", help="NAME=VALUE: any argument of the pipeline; may be given again.")
]

_PLACES = ("publish", "champion", "parent", "bundle", "scored", "outcomes", "store", "output")
"""Arguments that name a place, which pods have to reach."""


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
    approval: Annotated[
        str, typer.Option(help="'gate': the gate alone approves what passes, whatever the contract's approval.")
    ] = "",
    name: Annotated[str, typer.Option(help="Of the run; a name that is there already starts no second one.")] = "",
    kubeflow: KubeflowOption = "",
) -> None:
    """Start a pipeline on a cluster and print the id of its run."""
    from datetime import UTC, datetime

    options = {"publish": publish, "source": source, "trials": trials, "seed": seed, "champion": champion}
    options |= {"service": service, "smoke_url": smoke_url}
    short, arguments = _arguments(pipeline, contract, options, more)
    if approval:
        arguments["contract"] = approved_by_gate(contract, approval)
    client = connected(kubeflow)
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
    from offers.errors import ServiceError

    if pipeline == "update":
        raise ServiceError(
            "update: a schedule would update the same parent for ever, also when another bundle serves; "
            "'offers retrain listen --update-labels 250' updates the bundle that serves"
        )
    options = {"publish": publish, "source": source, "service": service, "smoke_url": smoke_url}
    name, arguments = _arguments(pipeline, contract, options, more)
    client = connected(kubeflow)
    with _package(pipeline) as package:
        identity = client.schedule(package, arguments, name, cron)
    typer.echo(f"{identity}  {name}  {cron}")


def schedules(kubeflow: KubeflowOption = "") -> None:
    """List what runs by the clock on a cluster."""
    for one in connected(kubeflow).schedules():
        typer.echo(f"{one.name:<32} {one.cron:<20} since {moment(one.created)}  {one.id}")


def unschedule(
    name: Annotated[str, typer.Argument(help="Of the schedule, as 'offers pipeline schedules' tells it.")],
    kubeflow: KubeflowOption = "",
) -> None:
    """End a schedule; a run of it that is under way goes on, and what its runs have said stays."""
    connected(kubeflow).unschedule(name)
    typer.echo(f"{name} begins no further run")


def _arguments(
    pipeline: str, contract: str, options: dict[str, Any], more: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """What runs of a pipeline for a contract are called, and their arguments."""
    from cli.market_graph import market_arguments
    from cli.pipeline import training_arguments
    from offers.contract import contract as contracts
    from offers.contract import market as markets
    from offers.errors import ServiceError, StorageError
    from offers.steps.champion import CHAMPION
    from pipelines.compilation import PIPELINES, arguments_of

    inputs = PIPELINES[pipeline].component_spec.inputs if pipeline in PIPELINES else {}
    of_market = "market" in inputs
    short = {"training": "train", "monitoring": "monitor"}.get(pipeline, pipeline)
    name = f"{short}-{(markets if of_market else contracts).load(contract).name}"
    for pair in more:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ServiceError(f"--set {pair!r}: expected NAME=VALUE")
        options[key] = value
    if of_market:
        options |= market_arguments(contract, options["source"])
    if "contract" in inputs:
        options |= training_arguments(contract, options["source"], options["publish"])
    if "publish" in inputs and not options["publish"]:
        raise StorageError("--publish: expected s3://bucket/prefix, where a bundle that passed goes, got nothing")
    arguments = arguments_of(pipeline, options)
    if customers := arguments.get("customers"):
        arguments |= _customers(customers, str(arguments.get("catalogue", "")))
    for key in _PLACES:
        place = str(arguments.get(key, "s3://"))
        if not place.startswith("s3://") and not (key == "bundle" and place.startswith(CHAMPION)):
            raise StorageError(
                f"--{key} {arguments[key]!r}: expected s3://bucket/prefix, which the steps on a cluster can reach"
            )
    return name, arguments


def approved_by_gate(contract: str, approval: str = "gate") -> str:
    """Write a contract's text with the approval by the gate alone.

    Raises
    ------
    ContractError
        the contract says itself that people approve, or the approval is another
    """
    import re

    from offers.contract import contract as contracts
    from offers.errors import ContractError

    if approval != "gate":
        raise ContractError(f"--approval: expected gate, got {approval!r}")
    text = contracts.text(contract)
    if contracts.parse(text).approval.by == "gate":
        return text
    if re.search(r"^approval:", text, re.MULTILINE):
        raise ContractError(f"--approval gate: {contract} says itself who approves; change it there")
    return f"{text.rstrip()}\napproval: {{by: gate}}\n"


def _customers(customers: str, catalogue: str) -> dict[str, str]:
    """Check that pods can reach a table of customers, and hand them the text of a catalogue that is a file."""
    from offers.contract import secret
    from offers.errors import StorageError
    from offers.policy import catalogue as catalogues

    secret.refuse_literal(customers, "--set customers")
    if "://" not in customers and not customers.startswith("${"):
        raise StorageError(f"--customers {customers!r}: expected s3://, http(s):// or a database, which pods can reach")
    is_file = catalogue and catalogue not in catalogues.shipped()
    return {"catalogue": catalogues.text(catalogue)} if is_file else {}


@contextmanager
def _package(pipeline: str) -> Iterator[Path]:
    import tempfile

    from pipelines.compilation import compile_pipeline

    with tempfile.TemporaryDirectory() as directory:
        yield compile_pipeline(pipeline, Path(directory) / f"{pipeline}.yaml")
