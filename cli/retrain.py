"""offers retrain: ask for a new model, wait for alarms that ask for one, read what was decided."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.submission import DeployOption, SmokeOption

if TYPE_CHECKING:
    from offers.retraining.journal import Journal
    from offers.retraining.retrainer import Retrainer
    from offers.settings import Settings
    from pipelines.trigger import Authority

app = typer.Typer(no_args_is_help=True, help="Ask for a new model, wait for alarms, read what was decided.")

ContractOption = Annotated[
    str, typer.Option("--contract", "-c", help="Name of a shipped contract or market, or a YAML file.")
]
OnlineOption = Annotated[str, typer.Option(help="Of a market: the online store that gets the users after a training.")]
SourceOption = Annotated[
    str,
    typer.Option(
        envvar="OFFERS_SOURCE",
        help="Where the rows are, instead of the contract's source: path, URL, s3://, SQL URL or 'simulated'; "
        "with ' + decisions:TABLES' the decision log stands behind it. Of a market: the directory or s3:// URI of its "
        "tables, or 'simulated'.",
    ),
]
PublishOption = Annotated[str, typer.Option(help="Where a bundle that passed goes: a directory or s3:// URI.")]


@app.command()
def now(
    contract: ContractOption = "bank-marketing",
    source: SourceOption = "",
    publish: PublishOption = "",
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")] = "",
    update: Annotated[
        str, typer.Option(help="Name of a bundle whose layer learns the newer labels, instead of a training.")
    ] = "",
    online: OnlineOption = "",
) -> None:
    """Train a new model on this machine, or update one, unless a run is under way. Exit code 3: refused."""
    import uuid

    from cli.recorded import register_end
    from cli.run_display import RunDisplay
    from offers.retraining.journal import Request
    from offers.retraining.retrainer import Retrainer
    from offers.settings import Settings
    from pipelines.starting import LocalRuns

    settings = Settings.from_env()
    journal = _own_journal(contract, settings)
    evidence: dict[str, Any] = {"reasons": [reason]} if reason else {}
    wish: dict[str, Any] = {"id": f"manual-{uuid.uuid4().hex}", "contract": journal.contract, "cause": "manual"}
    wish |= {"action": "update", "evidence": evidence | {"bundle": update}} if update else {"evidence": evidence}
    request = Request.model_validate(wish)
    with RunDisplay() as display:
        arguments = _arguments(contract, source, publish, online, settings)
        runs = LocalRuns(arguments, settings.home.resolve() / "runs", register_end(journal, settings), display.update)
        decision = Retrainer(journal, runs).ask(request)
        runs.wait()
    typer.echo(decision.reason)
    if not decision.started:
        raise typer.Exit(3)
    _tell(journal, decision.run)


@app.command()
def listen(
    contract: ContractOption = "bank-marketing",
    source: SourceOption = "",
    publish: PublishOption = "",
    kubeflow: Annotated[
        bool, typer.Option("--kubeflow", help="Run on the cluster at OFFERS_KUBEFLOW_URL instead of here.")
    ] = False,
    service: DeployOption = "",
    smoke_url: SmokeOption = "",
    online: OnlineOption = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8095,
    every: Annotated[str, typer.Option(help="Longest time between two trainings, such as 7d; none by default.")] = "",
    new_rows: Annotated[int, typer.Option(min=0, help="Ask for a run when the source has so many more; 0: never.")] = 0,
    update_labels: Annotated[int, typer.Option(min=0, help="New labels that update the layer; 0: never.")] = 0,
    look_every: Annotated[str, typer.Option(help="How often to look at the clock and at the source.")] = "10m",
    cool_down: Annotated[str, typer.Option(help="Time between two trainings, unless a person asks.")] = "1d",
    runs_a_day: Annotated[int, typer.Option(min=1, help="Most trainings within 24 hours, unless a person asks.")] = 4,
) -> None:
    """Take alarms over HTTP, and start trainings and updates for them, until Ctrl-C."""
    import os
    from functools import partial

    from cli import chores
    from cli.recorded import register_end
    from offers.decisions.period import span
    from offers.retraining.retrainer import Limits, Retrainer
    from offers.retraining.signature import VARIABLE, key_of
    from offers.settings import Settings
    from pipelines.starting import MARKET, ClusterRuns, LocalRuns
    from pipelines.trigger import Authority, announce

    settings, regular = Settings.from_env(), list[tuple[float, Callable[[], None]]]()
    journal = _journal(contract, settings) if kubeflow else _own_journal(contract, settings)
    arguments = _arguments(contract, source, publish, online, settings, kubeflow)
    limits, seconds = Limits(cool_down=span(cool_down), runs_a_day=runs_a_day), span(look_every).total_seconds()
    if kubeflow:
        # A market's release waits for its promotion.
        targets = {} if MARKET in arguments else {"service": service, "smoke_url": smoke_url}
        runs = ClusterRuns(settings, arguments | targets)
        retrainer = Retrainer(journal, runs, limits, lambda: runs.settle(journal), announce)
        regular.append((chores.SETTLE_SECONDS, chores.settling(retrainer, runs)))
    else:
        ended = register_end(journal, settings)
        local = LocalRuns(arguments, settings.home.resolve() / "runs", ended, settings=settings)
        retrainer = Retrainer(journal, local, limits, told=announce)
    served = partial(chores.served, journal.contract, settings, smoke_url if kubeflow else "")
    asked = chores.Asked(every, new_rows, update_labels)
    regular += [(seconds, chore) for chore in chores.asking(retrainer, contract, arguments, asked, served, settings)]
    _serve(retrainer, Authority(key_of(os.environ.get(VARIABLE, "")), served), host, port, regular)


@app.command()
def journal(
    contract: ContractOption = "bank-marketing",
    as_json: Annotated[bool, typer.Option("--json", help="All that was written, a line of JSON an entry.")] = False,
) -> None:
    """Print every decision on retraining that the ledger has, and what came of it, a line each."""
    from offers.settings import Settings

    entries = _journal(contract, Settings.from_env())
    for line in [entry.model_dump_json() for entry in entries.entries()] if as_json else entries.lines():
        typer.echo(line)


def _serve(
    retrainer: "Retrainer", authority: "Authority", host: str, port: int, chores: list[tuple[float, Callable[[], None]]]
) -> None:
    """Listen until Ctrl-C; a line of JSON says where."""
    import json

    from pipelines.trigger import application, run
    from serving.process.listening import bound
    from serving.process.logs import configure_logging

    contract = retrainer.journal.contract
    with bound(host, port) as socket:
        configure_logging()
        edge = application(retrainer, authority)
        typer.echo(json.dumps({"host": host, "http_port": socket.getsockname()[1], "contract": contract}))
        sys.stdout.flush()
        run(edge, socket, chores)


def _journal(contract: str, settings: "Settings") -> "Journal":
    """Open the journal for reading, or for a service, whose key an admin of the ledger has added."""
    from cli.market_graph import subject_of
    from offers.governance.access import member_key, open_ledger
    from offers.retraining.journal import Journal

    return Journal(open_ledger(settings), lambda: member_key(settings), subject_of(contract))


def _own_journal(contract: str, settings: "Settings") -> "Journal":
    """Open the journal to write with one's own key; an empty ledger begins with it."""
    from cli.market_graph import subject_of
    from offers.governance.access import open_to_write
    from offers.retraining.journal import Journal

    ledger, signer = open_to_write(settings)
    return Journal(ledger, lambda: signer, subject_of(contract))


def _arguments(
    contract: str, source: str, publish: str, online: str, settings: "Settings", on_cluster: bool = False
) -> dict[str, Any]:
    from pathlib import Path

    from cli.market_graph import is_market, market_arguments
    from cli.pipeline import training_arguments
    from offers.errors import ServiceError, SourceError
    from offers.steps.market import SIMULATED

    place = publish or str(settings.home.resolve() / "bundles")
    if not is_market(contract):
        if online:
            raise ServiceError(f"--online: only a market has an online store, and {contract} is none; leave it out")
        return training_arguments(contract, source, place)
    if not source:
        raise SourceError(f"--source: expected the place of the market's tables, or {SIMULATED}, got nothing")
    if not source.startswith((SIMULATED, "s3://")):
        source = str(Path(source).resolve())
    return market_arguments(contract, source, on_cluster) | {"publish": place, "online": online}


def _tell(journal: "Journal", run: str) -> None:
    from offers.errors import ServiceError

    outcome = next(entry for entry in reversed(journal.entries()) if entry.kind == "outcome" and entry.run == run)
    if not outcome.succeeded:
        raise ServiceError(f"{run} failed: {outcome.note}")
    typer.echo(f"bundle  {outcome.bundle}" if outcome.bundle else outcome.note)
    if not outcome.bundle:
        raise typer.Exit(3)
