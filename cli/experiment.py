"""offers experiment: have some customers answered by other arms, and stop that."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from offers.experiments.experiment import Experiment
    from serving.ranker.routing import Routing

app = typer.Typer(no_args_is_help=True, help="Experiments: arms that answer a share of the customers.")

FileArgument = Annotated[str, typer.Argument(help="YAML file of the experiment.")]
RoutingOption = Annotated[
    Path | None, typer.Option(help="The ranker's routing file; by default that of 'offers serve'.", dir_okay=False)
]


@app.command()
def start(file: FileArgument, routing: RoutingOption = None) -> None:
    """Begin an experiment, add an arm, or let a share grow: nobody but customers of the control changes arms."""
    from offers.errors import PolicyError, ServiceError
    from offers.experiments import experiment as experiments

    experiment = experiments.load(file)
    path, present = _present(routing)
    _check(experiment, present)
    others = [one for one in present.experiments if one.name != experiment.name]
    former = next((one for one in present.experiments if one.name == experiment.name), None)
    if former is not None and (reason := experiment.moved(former)):
        raise PolicyError(f"{file}: customers would change arms, {reason}; give it another name, and stop this one")
    if reason := experiments.conflict([*others, experiment]):
        raise ServiceError(f"{path}: {reason}")
    _write(path, present, (*others, experiment))
    shares = ", ".join(f"{name} {share:.0%}" for name, share in experiment.shares.items())
    typer.echo(f"{experiment.name}: {shares}; the ranker takes it up within a second, or says in its log why not")


@app.command()
def stop(name: Annotated[str, typer.Argument(help="The experiment.")], routing: RoutingOption = None) -> None:
    """End an experiment at once: what serves answers everybody again."""
    from offers.errors import PolicyError

    path, present = _present(routing)
    names = [one.name for one in present.experiments]
    if name not in names:
        raise PolicyError(f"{path}: expected one of {', '.join(names) or 'no experiments'}, got {name!r}")
    _write(path, present, tuple(one for one in present.experiments if one.name != name))
    typer.echo(f"{name} has ended")


def _present(path: Path | None) -> "tuple[Path, Routing]":
    from offers.settings import Settings
    from serving.local import ROUTING
    from serving.ranker import routing

    where = path or Settings.from_env().home / "serve" / ROUTING
    return where, routing.read(where)


def _check(experiment: "Experiment", present: "Routing") -> None:
    """Load each arm's catalogue, so that a mistake is told here and not in the ranker's log."""
    from offers.contract import contract as contracts
    from offers.policy import catalogue as catalogues

    contract = contracts.load(str(present.arms[0].directory / "bundle" / "contract.yaml"))
    for arm in experiment.arms:
        catalogues.load(str(present.arms[0].beside(arm).policy), contract)


def _write(path: Path, present: "Routing", experiments: "tuple[Experiment, ...]") -> None:
    from serving.ranker import routing

    routing.write(path, present.model_copy(update={"experiments": experiments}))
