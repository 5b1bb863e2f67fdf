"""offers learn: what decisions teach: log, outcomes, evidence about a candidate, an experiment, an erasure."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offers.wording import counted

if TYPE_CHECKING:
    from offers.contract.contract import Contract
    from offers.policy.catalogue import Catalogue
    from offers.settings import Settings
    from offers.simulation.world import World
    from serving.supervisor import Supervisor

CONTRACT = "bank-marketing"
EXPLORATION = "{kind: softmax, temperature: 8}"
EXPERIMENT = "name: equal-terms\narms:\n  - {name: candidate, share: 0.5, catalogue: candidate.yaml}\n"
SWITCH_SECONDS = 15.0


@dataclass
class Audience:
    """Customers of a simulated world, who take any term alike; the ranker is asked about each once.

    Attributes
    ----------
    asked : number of customers so far, of whom each is named by its number
    answers : of the newest customers
    """

    world: "World"
    catalogue: "Catalogue"
    asked: int = 0
    answers: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, ranker: str, customers: int) -> None:
        """Have offers ranked for the next customers, and post whether each accepted the offer in first place."""
        import numpy as np
        import pandas as pd

        from cli.screen import console
        from cli.traffic import batches, send

        contract, first = self.world.contract, self.asked
        sample = self.world.sample(customers, seed=first)
        self.answers = []
        for batch in batches(sample.frame):
            self.answers += send(ranker, contract, batch, self.asked)
            self.asked += len(batch)
        attributes = {offer.id: offer.attributes for offer in self.catalogue.offers}
        shown = np.array([bool(answer["offers"]) for answer in self.answers])
        ids = [answer["offers"][0]["offer_id"] for answer in self.answers if answer["offers"]]
        frame = sample.frame[shown]
        for name in attributes[ids[0]]:
            values = pd.Series([attributes[one][name] for one in ids], frame.index)
            frame = frame.assign(**{name: values.astype(frame[name].dtype)})
        propensity = self.world.propensity(frame, sample.decided_at[shown])
        accepted = np.random.default_rng([first, 1]).random(len(frame)) < propensity
        decisions = [answer["decision_id"] for answer, there in zip(self.answers, shown, strict=True) if there]
        _post(ranker, [decision for decision, yes in zip(decisions, accepted, strict=True) if yes])
        sentence = f"{counted(customers, 'decision')} logged, {counted(int(accepted.sum()), 'acceptance')} posted"
        console.print(f"{sentence}; silence is a decline")


def learn(
    customers: Annotated[int, typer.Option(min=1000, max=100_000, help="Simulated customers of each part.")] = 4000,
) -> None:
    """Log decisions about simulated customers; learn from them what another catalogue would earn, and a new model.

    The newest bundle decides; where there is none yet, one is trained first.
    """
    from cli.screen import console

    tables = _judge(customers)
    console.print("\nThe decisions have matured: a training learns from the history and from them", style="bold")
    _train(tables)


def _judge(customers: int) -> Path:
    """Have the newest bundle decide, and judge another catalogue by its log; returns where the log is."""
    from cli import decisions, experiment
    from cli.night import newest_bundle
    from cli.pipeline import fresh
    from cli.screen import console
    from offers.bundle.location import open_bundle
    from offers.policy import catalogue as catalogues
    from offers.settings import Settings
    from offers.simulation.world import World
    from offers.store.delta import DeltaTables

    settings = Settings.from_env()
    bundle = open_bundle(str(newest_bundle(settings.home / "bundles")), settings)
    home = fresh(settings.home.resolve(), "learn")
    own = settings.model_copy(update={"home": home, "ledger": "", "key": None})
    tables, routing = str(home / "tables"), home / "serve" / "routing.json"
    plain = catalogues.text(CONTRACT)
    audience = Audience(World(bundle.contract), catalogues.parse(plain, bundle.contract))
    candidate, file = home / "candidate.yaml", home / "experiment.yaml"
    candidate.write_text(_equal_terms(_exploring(plain)), "utf-8")
    file.write_text(EXPERIMENT, "utf-8")
    with _served(own, bundle.path, plain) as supervisor:
        ranker = supervisor.services.ranker.url
        console.print("\nThe shipped policy decides, and always takes the best score", style="bold")
        audience.ask(ranker, customers)
        explored = _moment()
        console.print(f"\nNow it explores: {EXPLORATION}", style="bold")
        supervisor.switch(_released(own, bundle.path, _exploring(plain)))
        audience.ask(ranker, customers)
        compared = _moment()
        console.print("\nAn experiment: half of the customers get the candidate", style="bold")
        experiment.start(str(file), str(routing))
        _await(f"{ranker}/metrics", "equal-terms/candidate")
        audience.ask(ranker, customers)
    _tell(audience, str(candidate), str(file), own, (explored, compared))
    console.print("\nThe decisions are monitored, before the experiment and in it", style="bold")
    for since, until in (("", compared), (compared, "")):
        _monitor(bundle.path, home, since, until, _final(bundle.contract))
    console.print("\nOne decision made again, to the byte, by the policy and by the bundle", style="bold")
    decisions.redo(audience.answers[0]["decision_id"], "", "", str(bundle.path), tables)
    console.print("\nOne customer is erased, and the log is whole", style="bold")
    customer = audience.answers[1]["customer_id"]
    decisions.erase_customer(customer, "asked for it", DeltaTables.at(tables, own), own)
    decisions.verify(tables)
    return home / "tables"


def _monitor(bundle: Path, home: Path, since: str, until: str, as_of: str) -> None:
    """Hold decisions against the bundle as of a later day; an alarm is a result, and no reason to end."""
    from cli import monitor

    tables = str(home / "tables")
    try:
        monitor.run_(str(bundle), tables, tables, since, until or _moment(), as_of, str(home))
    except typer.Exit as end:
        if end.exit_code != monitor.ALARM:
            raise


def _train(tables: Path) -> None:
    """Train on the contract's source and the log, as of the day on which each outcome is final, in the log's home."""
    from cli.demo import _source
    from offers.contract import contract as contracts
    from offers.settings import Settings

    contract = contracts.load(CONTRACT)
    history = _source(contract, Settings.from_env())
    source = f"{history} + decisions:{tables}?as_of={_final(contract)}".strip()
    command = [sys.executable, "-m", "cli", "pipeline", "run", "--source", source]
    # The bundle has simulated customers among its rows, so it stays out of the ledger of what serves.
    environment = os.environ | {"OFFERS_HOME": str(tables.parent), "OFFERS_LEDGER": ""}
    if code := subprocess.run(command, env=environment, check=False).returncode:
        raise typer.Exit(code)


def _final(contract: "Contract") -> str:
    """Compute the first moment at which the outcome of every decision until now is final."""
    window = timedelta(days=contract.target.matures_after_days, minutes=1)
    return (datetime.now(UTC) + window).isoformat()


def _tell(audience: Audience, candidate: str, file: str, settings: "Settings", moments: tuple[str, str]) -> None:
    """Evaluate the candidate by the decisions before each of two moments, and compare the arms after the second."""
    from cli import experiment, policy
    from cli.screen import console

    tables, (explored, compared) = str(settings.home / "tables"), moments
    # Reports are made as of the day on which the outcome of every decision is final.
    later = _final(audience.world.contract)
    console.print("\nWhat the candidate, with one weight for every term, would earn; from the log alone", style="bold")
    for title, since, until in (("without exploration", "", explored), ("with exploration", explored, compared)):
        console.print(f"{title}:", style="bold")
        policy.evaluate(candidate, tables, "", since, until, later)
    console.print("\nWhat it earned, in the experiment", style="bold")
    experiment.report(file, tables, compared, "", later, settings.home / "experiment.html")


@contextmanager
def _served(settings: "Settings", bundle: Path, catalogue: str) -> Iterator["Supervisor"]:
    """Serve a release of bundle and catalogue, with a decision log, from a home of its own."""
    from offers.decisions.pseudonym import Pseudonyms
    from offers.store.directory import DirectoryStore
    from serving.local import Log, SidecarOptions, sidecar_python
    from serving.supervisor import supervised

    home = settings.home
    log = Log(str(home / "tables"), home / "pseudonym.key")
    Pseudonyms.at(log.key)
    release, watch = _released(settings, bundle, catalogue), SidecarOptions(sidecar_python())
    place = (DirectoryStore(home), home, home / "serve", watch, release)
    with supervised(*place, str, decisions=log) as supervisor:
        yield supervisor


def _released(settings: "Settings", bundle: Path, catalogue: str) -> str:
    from offers.governance import release as releases
    from offers.store.directory import DirectoryStore

    release = releases.make(settings.home / "releases", bundle, catalogue)
    releases.store_release(DirectoryStore(settings.home), release)
    return release.name


def _exploring(catalogue: str) -> str:
    return re.sub(r"^policy: {", f"policy: {{exploration: {EXPLORATION}, ", catalogue, count=1, flags=re.MULTILINE)


def _equal_terms(catalogue: str) -> str:
    """Drop the weights, by which the catalogue says that fewer customers take the longer terms."""
    return re.sub(r"^    weights?: .*\n", "", catalogue, flags=re.MULTILINE)


def _post(ranker: str, decisions: list[str]) -> None:
    from offers.errors import ServiceError
    from offers.http_client import peer

    now = datetime.now(UTC).isoformat()
    outcomes = [{"decision_id": decision, "kind": "accepted", "observed_at": now} for decision in decisions]
    body, headers = json.dumps({"outcomes": outcomes}).encode(), {"content-type": "application/json"}
    answer = peer("the ranker", f"{ranker}/v1/outcomes", 30.0).ask(body, headers)
    if answer.status_code != 200:
        raise ServiceError(f"{ranker}/v1/outcomes answers {answer.status_code}: {answer.text:.200}")


def _await(metrics: str, arm: str) -> None:
    """Wait until the ranker has taken up an arm."""
    from offers.errors import ServiceError
    from offers.http_client import peer

    ranker, deadline = peer("the ranker", metrics, 5.0), time.monotonic() + SWITCH_SECONDS
    while f'"{arm}"' not in ranker.ask().text:
        if time.monotonic() > deadline:
            raise ServiceError(f"the ranker did not take up {arm} in {SWITCH_SECONDS:g} s; its log tells why")
        time.sleep(0.05)


def _moment() -> str:
    return datetime.now(UTC).isoformat()
