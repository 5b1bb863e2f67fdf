"""offers demo: the whole product in one command, on real contacts where they can be had."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from offers.wording import counted

if TYPE_CHECKING:
    import pandas as pd

    from offers.contract.contract import Contract
    from offers.retraining.journal import Decision, Journal
    from offers.settings import Settings
    from pipelines.starting import LocalRuns
    from serving.local import Services

T = TypeVar("T")
CONTRACT = "bank-marketing"
QUIET_WINDOWS = 4
"""Windows without drift that are waited for."""
CHANGED_ROWS = 2500
"""Drifted customers to send; an alarm must come within them. A multiple of 2 500 keeps the evaluation's 500-row blocks
aligned with the first run's: misaligned blocks alone move the AUC by more than the new rows do."""
PLANNED_CUSTOMERS, LEARNT_CUSTOMERS = 5000, 1000
"""Simulated customers at the end, enough to fill the pages of 'make app'."""
LOOK_SECONDS = 2.0
"""Seconds to wait for the effect of a batch before the next one."""


def demo() -> None:
    """Train, rank, watch the world change, train again and update: on real contacts, simulated where there are none."""
    import tempfile

    from cli import traffic
    from cli.governance import govern
    from cli.layer import update
    from cli.learn import learn
    from cli.night import night
    from cli.pipeline import run
    from cli.screen import console
    from offers.bundle.location import open_bundle
    from offers.contract import contract as contracts
    from offers.settings import Settings
    from serving.local import SidecarOptions, services, sidecar_python

    contract, settings, python = contracts.load(CONTRACT), Settings.from_env(), sidecar_python()
    source = _source(contract, settings)
    bundle = Path(run(contract.name, source))
    older_customers = traffic.shifted(open_bundle(str(bundle), settings), CHANGED_ROWS)
    home = Path(tempfile.mkdtemp(prefix="demo-", dir=settings.home.resolve()))
    contacts = traffic.contacts(contract, settings, source, older_customers, home)
    # The ports differ from those of 'offers serve', which may be running.
    directory = home / "serve"
    with _trigger(contract, settings, contacts, bundle) as trigger:
        console.print("\nPredictor, ranker and drift sidecar answer on loopback", style="bold")
        with services(bundle, contract.name, directory, watch=SidecarOptions(python, trigger.url)) as running:
            _rank(running, contract)
            decision = _drift(running, trigger, contract, bundle, older_customers)
            console.print("\nA new model is trained on the contacts, the shifted ones among them", style="bold")
            new = trigger.result(decision)
    update(contract, settings, contacts, new, trigger.journal)
    govern(contract, settings, (bundle, new), home, SidecarOptions(python))
    console.print("\nA week's calls for a few customers, as 'make night' plans them for many", style="bold")
    night(PLANNED_CUSTOMERS)
    console.print("\nAn experiment on a few customers, as 'make learn' makes it on many", style="bold")
    learn(LEARNT_CUSTOMERS)
    console.print("\n'make app' shows all this in the browser; why the model was trained again, decision by decision:")
    console.print(f"OFFERS_HOME={home} .venv/bin/offers retrain journal")


@dataclass(frozen=True)
class _Trigger:
    """The service that receives alarms, in this process."""

    url: str
    journal: "Journal"
    runs: "LocalRuns"

    def decisions(self) -> "list[Decision]":
        return [entry for entry in self.journal.entries() if entry.kind == "decision"]

    def started(self) -> "Decision | None":
        return next((decision for decision in self.decisions() if decision.started), None)

    def result(self, decision: "Decision") -> Path:
        from offers.errors import ServiceError

        self.runs.wait()
        outcome = next(e for e in self.journal.entries() if e.kind == "outcome" and e.run == decision.run)
        if not outcome.bundle:
            raise ServiceError(f"{outcome.run} made no bundle: {outcome.note}")
        return Path(outcome.bundle)


def _source(contract: "Contract", settings: "Settings") -> str:
    from cli.screen import console, download_progress, notice
    from offers.data import sources
    from offers.errors import SourceError

    try:
        with download_progress() as progress:
            sources.fetch(contract, settings, progress=progress)
    except SourceError as error:
        farewell = "This demo goes on with a simulated world: its figures say nothing of real customers."
        console.print(notice("SIMULATED DATA", f"{error}\n{farewell}"))
        return "simulated"
    return ""


def _rank(running: "Services", contract: "Contract") -> None:
    from cli.screen import console
    from cli.serve import show
    from serving.asking import ask
    from serving.ranker.question import example

    for prediction in ask(running.ranker.url, example(contract))["predictions"]:
        show(prediction, console)


def _drift(
    running: "Services", trigger: _Trigger, contract: "Contract", bundle: Path, changed: "pd.DataFrame"
) -> "Decision":
    """Send unchanged customers, then changed ones, until an alarm has started a training."""
    import pandas as pd

    from cli.screen import console
    from cli.traffic import batches, send
    from offers.errors import ServiceError

    ranker, watched = running.ranker.url, running.drift
    assert watched is not None
    console.print(f"\nCustomers like those of the training, {contract.watch.window} to a window", style="bold")
    usual = pd.read_parquet(bundle / "reference.parquet").sample(frac=1, random_state=0)
    for batch in batches(usual):
        send(ranker, contract, batch)
        if _awaited(lambda: _windows(watched.url) >= QUIET_WINDOWS, LOOK_SECONDS):
            break
    quiet = _windows(watched.url)
    if trigger.decisions():
        raise ServiceError(f"an alarm came without drift: {watched.url}/report tells why")
    console.print(f"{counted(quiet, 'window')}, no alarm; {watched.url}/report shows them")
    console.print("\nCustomers of a simulated world: older, and more of them retired", style="bold")
    for batch in batches(changed):
        send(ranker, contract, batch)
        if decision := _awaited(trigger.started, LOOK_SECONDS):
            _tell(decision, _windows(watched.url) - quiet)
            return decision
    raise ServiceError(f"{len(changed)} changed customers started no training: {watched.url}/report tells why")


def _tell(decision: "Decision", windows: int) -> None:
    from cli.screen import console

    alarm = decision.request.evidence
    breached = ", ".join(name for name, breached in alarm["signals"].items() if breached)
    console.print(f"alarm after {counted(windows, 'window')}: {breached}")
    for reason in alarm["reasons"][:5]:
        console.print(f"- {reason}", style="dim")
    if (more := len(alarm["reasons"]) - 5) > 0:
        console.print(f"- and {more} more", style="dim")
    console.print(f"verdict: two of three signals are breached, so the model is trained again: {decision.run}")


@contextmanager
def _trigger(contract: "Contract", settings: "Settings", contacts: Path, bundle: Path) -> Iterator[_Trigger]:
    import uvicorn

    from cli.pipeline import training_arguments
    from cli.run_display import RunDisplay
    from offers.governance.access import open_to_write
    from offers.retraining.journal import Journal
    from offers.retraining.retrainer import Retrainer
    from pipelines.starting import LocalRuns
    from pipelines.trigger import application
    from serving.process.listening import bound

    # The demo has its own ledger: the cool-down of an earlier demo must not delay this one.
    ledger, signer = open_to_write(settings.model_copy(update={"home": contacts.parent, "ledger": "", "key": None}))
    journal = Journal(ledger, lambda: signer, contract.name)
    display = RunDisplay()
    arguments = training_arguments(contract.name, str(contacts), str(bundle.parent))
    runs = LocalRuns(arguments, settings.home.resolve() / "runs" / contacts.parent.name, journal.ended, display.update)
    socket = bound("127.0.0.1", 0)
    config = uvicorn.Config(application(Retrainer(journal, runs)), log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        with display:
            yield _Trigger(f"http://127.0.0.1:{socket.getsockname()[1]}", journal, runs)
    finally:
        server.should_exit = True
        thread.join()
        runs.wait()


def _windows(url: str) -> int:
    from offers.http_client import peer

    return int(peer("the sidecar", f"{url}/report", 10.0).ask().json()["windows"])


def _awaited(look: Callable[[], T], seconds: float) -> T:
    """Ask until there is an answer, for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer
