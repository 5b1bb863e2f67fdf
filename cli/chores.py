"""What `offers retrain listen` does from time to time: settle runs, ask by the clock, by new rows, by new labels."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from offers.contract.contract import Contract
    from offers.retraining.retrainer import Retrainer
    from offers.settings import Settings
    from pipelines.starting import ClusterRuns

SETTLE_SECONDS = 60.0
"""Seconds between two looks at the runs on the cluster."""


class Asked(NamedTuple):
    """When runs are asked for; an empty text and 0 mean never.

    Attributes
    ----------
    every : longest time between two trainings
    rows : new rows that ask for a training
    labels : new labels that ask for an update
    """

    every: str
    rows: int
    labels: int


def asking(
    retrainer: "Retrainer",
    contract: str,
    arguments: dict[str, Any],
    asked: Asked,
    served: Callable[[], str],
    settings: "Settings",
) -> list[Callable[[], None]]:
    """List the chores that ask for runs; `served` names the bundle that serves."""
    from offers.contract import contract as contracts
    from offers.decisions.period import span
    from offers.errors import ServiceError
    from pipelines.starting import MARKET

    if MARKET in arguments and (asked.rows or asked.labels):
        raise ServiceError("--new-rows, --update-labels: a market trains by the clock or for an alarm: use --every")
    chores = list[Callable[[], None]]()
    if asked.every:
        chores.append(by_schedule(retrainer, span(asked.every)))
    if asked.rows:
        chores.append(by_rows(retrainer, contract, arguments["source"], asked.rows, settings))
    if asked.labels and grows(contracts.load(contract), arguments["source"]):
        chores.append(by_labels(retrainer, contract, arguments, asked.labels, served, settings))
    return chores


def grows(contract: "Contract", source: str) -> bool:
    """Whether a source can get newer rows: a simulated world can't, nor a file whose checksum the contract knows."""
    from offers.decisions import training_rows

    history, log = training_rows.parts(source)
    fixed = history.partition(":")[0] == "simulated" or (not history and contract.source.sha256 is not None)
    return bool(log) or not fixed


def served(contract: str, settings: "Settings", predictor: str) -> str:
    """Name the bundle that the predictor serves; without one, that of the ledger's champion, empty where none is."""
    if predictor:
        from deployment.predictor import served

        return served(predictor)
    from offers.governance.access import open_ledger

    champion = open_ledger(settings).state().champion(contract)
    return champion.act.bundle if champion else ""


def settling(retrainer: "Retrainer", runs: "ClusterRuns") -> Callable[[], None]:
    """Write the ends of runs into the journal, and begin a lost one again."""
    from offers.retraining.retrainer import again

    journal = retrainer.journal

    def chore() -> None:
        runs.settle(journal)
        request = again(journal.entries(), journal.clock())
        if request is not None:
            retrainer.ask(request)

    return chore


def by_schedule(retrainer: "Retrainer", every: Any) -> Callable[[], None]:
    """Ask for a training when none began for a while."""
    from offers.retraining.retrainer import scheduled

    journal = retrainer.journal
    since = journal.clock()

    def chore() -> None:
        request = scheduled(journal.contract, journal.entries(), every, since, journal.clock())
        if request is not None:
            retrainer.ask(request)

    return chore


def by_rows(
    retrainer: "Retrainer", contract_name: str, source: str, new_rows: int, settings: "Settings"
) -> Callable[[], None]:
    """Ask for a training when the source has grown."""
    from offers.bundle.location import open_bundle
    from offers.contract import contract as contracts
    from offers.decisions import training_rows
    from offers.retraining.retrainer import grown

    journal, contract = retrainer.journal, contracts.load(contract_name)

    def chore() -> None:
        bundles = [entry.bundle for entry in journal.entries() if entry.kind == "outcome" and entry.bundle]
        trained_on = open_bundle(bundles[-1], settings).manifest.trained_rows if bundles else 0
        rows = len(training_rows.ingest(contract, settings, source).frame)
        request = grown(journal.contract, rows, trained_on, new_rows, journal.clock())
        if request is not None:
            retrainer.ask(request)

    return chore


def by_labels(
    retrainer: "Retrainer",
    contract_name: str,
    arguments: dict[str, Any],
    labels: int,
    served: Callable[[], str],
    settings: "Settings",
) -> Callable[[], None]:
    """Ask for an update of the bundle that serves when enough labels are new to its layer."""
    from offers.bundle.location import open_bundle
    from offers.contract import contract as contracts
    from offers.decisions import training_rows
    from offers.retraining.retrainer import learnable

    journal, contract, publish = retrainer.journal, contracts.load(contract_name), arguments["publish"].rstrip("/")

    def chore() -> None:
        newest = [entry.bundle for entry in journal.entries() if entry.kind == "outcome" and entry.bundle][-1:]
        champion = served()
        bundles = ([f"{publish}/{champion}"] if champion else []) + newest
        if not bundles:
            return
        # An update that waits for its approval has learnt its labels too, and is not asked for again.
        learnt = max(open_bundle(bundle, settings).manifest.data.rows for bundle in bundles)
        rows = len(training_rows.ingest(contract, settings, arguments["source"]).frame)
        request = learnable(journal.contract, bundles[0].rpartition("/")[2], rows, learnt, labels)
        if request is not None:
            retrainer.ask(request)

    return chore
