"""offers experiment: have some customers answered by other arms, tell what came of it, and stop that."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.outcomes import TablesOption

if TYPE_CHECKING:
    from offers.experiments.experiment import Experiment
    from serving.ranker.routing import Routing
    from serving.ranker.routing_source import RoutingSource

app = typer.Typer(no_args_is_help=True, help="Experiments: arms that answer a share of the customers.")

FileArgument = Annotated[str, typer.Argument(help="YAML file of the experiment.")]
RoutingOption = Annotated[
    str,
    typer.Option(
        help="The ranker's routing: a file, by default that of 'offers serve', or s3://bucket/routing/NAME.json.",
        show_default=False,
    ),
]


@app.command()
def start(file: FileArgument, routing: RoutingOption = "") -> None:
    """Begin an experiment, add an arm, or let a share grow: nobody but customers of the control changes arms."""
    from offers.errors import PolicyError, ServiceError
    from offers.experiments import experiment as experiments

    experiment = experiments.load(file)
    if experiment.name.startswith(experiments.CANARY):
        raise PolicyError(f"{file}: name: {experiments.CANARY!r} begins the names of canaries; choose another")
    source, present = _present(routing)
    _check(experiment, source.local(present))
    others = [one for one in present.experiments if one.name != experiment.name]
    former = next((one for one in present.experiments if one.name == experiment.name), None)
    if former is not None and (reason := experiment.moved(former)):
        raise PolicyError(f"{file}: customers would change arms, {reason}; give it another name, and stop this one")
    if reason := experiments.conflict([*others, experiment]):
        raise ServiceError(f"{source.where}: {reason}")
    _write(source, (*others, source.stored(experiment)))
    shares = ", ".join(f"{name} {share:.0%}" for name, share in experiment.shares.items())
    typer.echo(f"{experiment.name}: {shares}; the ranker takes it up within a second, or says in its log why not")


@app.command()
def stop(name: Annotated[str, typer.Argument(help="The experiment.")], routing: RoutingOption = "") -> None:
    """End an experiment at once: what serves answers everybody again."""
    from offers.errors import PolicyError

    source, present = _present(routing)
    names = [one.name for one in present.experiments]
    if name not in names:
        raise PolicyError(f"{source.where}: expected one of {', '.join(names) or 'no experiments'}, got {name!r}")
    _write(source, tuple(one for one in present.experiments if one.name != name))
    typer.echo(f"{name} has ended")


@app.command()
def report(
    file: FileArgument,
    tables: TablesOption = "",
    since: Annotated[str, typer.Option(help="A moment in UTC, or a span before --until such as 30d.")] = "",
    until: Annotated[str, typer.Option(help="A moment in UTC; by default that of --as-of.")] = "",
    as_of: Annotated[str, typer.Option(help="Outcomes that came later don't count; by default now.")] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="An HTML page to write, too.")] = None,
) -> None:
    """Compare the arms, customer by customer. Exit code 3: customers are missing from an arm."""
    from cli.screen import console, shown
    from offers.decisions.period import Period
    from offers.errors import PolicyError
    from offers.experiments import experiment as experiments
    from offers.experiments.comparison import compare
    from offers.experiments.members import members
    from offers.files import os_errors
    from offers.reports import experiment as reports
    from offers.settings import Settings
    from offers.store.delta import DeltaTables

    settings, experiment, period = Settings.from_env(), experiments.load(file), Period.parse(since, until, as_of)
    if len(experiment.shares) < 2:
        raise PolicyError(f"{file}: shadows answer nobody, so there is nothing to compare; /metrics counts them")
    log = DeltaTables.at(tables or str(settings.home / "tables"), settings)
    customers = members(log, experiment.name, period, {arm.name: arm.bundle for arm in experiment.arms})
    assigned = experiment.members(customers.everybody)
    comparison = compare(customers.customers, experiment.shares, customers.protected, assigned)
    console.print(reports.headline(comparison), style="bold", markup=False, highlight=False)
    console.print(shown(reports.outcome_table(comparison, experiment.shares)))
    console.print(shown(reports.guardrail_table(comparison)))
    for note in reports.notes(customers, comparison):
        console.print(f"- {note}", markup=False, highlight=False)
    if output is not None:
        with os_errors(output):
            output.write_text(reports.experiment_report(experiment, customers, comparison, period), "utf-8")
        console.print(f"report  {output}", markup=False, highlight=False, soft_wrap=True)
    if comparison.mismatched:
        raise typer.Exit(3)


def _present(address: str) -> "tuple[RoutingSource, Routing]":
    from offers.errors import ServiceError
    from offers.settings import Settings
    from serving.local import ROUTING
    from serving.ranker.routing_source import open_routing

    settings = Settings.from_env()
    source = open_routing(address or str(settings.home / "serve" / ROUTING), settings, settings.home)
    if (present := source.read()) is None:
        raise ServiceError(f"{source.where}: there is no such object; a promotion writes it")
    return source, present


def _check(experiment: "Experiment", present: "Routing") -> None:
    """Load each arm's catalogue, and of a market its bundle, so that a mistake is reported here and not in a log."""
    from offers.contract import contract as contracts
    from offers.governance.market_release import serving_bundle
    from offers.governance.release import is_of_market
    from offers.policy import catalogue as catalogues

    directory = present.arms[0].directory
    if is_of_market(directory):
        for arm in experiment.arms:
            ours = present.arms[0].beside(arm)
            serving_bundle(ours.directory / "bundle", ours.policy, ours.bundle)
        return
    contract = contracts.load(str(directory / "bundle" / "contract.yaml"))
    for arm in experiment.arms:
        catalogues.load(str(present.arms[0].beside(arm).policy), contract)


def _write(source: "RoutingSource", experiments: "tuple[Experiment, ...]") -> None:
    source.update(lambda now: now.model_copy(update={"experiments": experiments}))
