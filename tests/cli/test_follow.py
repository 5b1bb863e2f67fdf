"""offers serve follows the ledger: promotions and rollbacks under load, none of which loses a request."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any

import httpx
import pytest

from offers.decisions.history import ledger_heads
from offers.governance.access import open_to_write
from offers.governance.approval import approve
from offers.governance.audit import heads_in, verify
from offers.governance.entries import Act, KeyAdded, Promoting
from offers.governance.keys import Signer, new_key
from offers.governance.ledger import Ledger
from offers.governance.registration import register
from offers.governance.release import make
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.runs import ShopRun, other_bundle
from tests.support.services import DEADLINE
from tests.support.warranties import WARRANTIES

QUESTION = {
    "instances": [
        {
            "customer_id": "c1",
            "customer": {"spending": 100.0, "visits": 3, "region": "north", "member": True},
            "context": {"rating": 3.5},
        }
    ]
}


@dataclass
class Bank:
    """A home with two bundles, three releases, and people who let them be promoted."""

    home: Path
    ledger: Ledger
    me: Signer
    people: list[Signer] = field(default_factory=list)

    def write(self, act: Act) -> int:
        entry = self.ledger.write(self.me, lambda state: act)
        assert entry is not None
        return entry.number

    def release(self, bundle: Path, catalogue: str) -> str:
        name = register(self.ledger, self.me, make(self.home / "releases", bundle, catalogue))
        for person in self.people:
            approve(self.ledger, person, name, {})
        return name


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    home = tmp_path / "home"
    ledger, me = open_to_write(Settings(home=home))
    bank = Bank(home, ledger, me)
    for name in ("ann", "bob"):
        person = new_key(home / "keys" / f"{name}.pem")
        public = person.public
        bank.write(KeyAdded(key=public.id, public=public.text, name=name, roles=("approver",)))
        bank.people.append(person)
    return bank


def offers(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "offers"), *map(str, arguments)]
    environment = os.environ | {"OFFERS_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE, check=False)


@contextmanager
def served(home: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """`offers serve` without a bundle; the address of its ranker."""
    command = [str(Path(sys.executable).parent / "offers"), "serve", "--port", "0"]
    log = home.parent / "serve.txt"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | {"OFFERS_HOME": str(home)}
        )
    try:
        assert process.stdout is not None
        lines = introduction(process.stdout)
        assert "ranker" in lines, log.read_text()
        yield lines["ranker"].partition("/v1")[0], process
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0, log.read_text()
    finally:
        process.kill()
        process.communicate()


def introduction(stream: IO[str]) -> dict[str, str]:
    """What it says of its services as soon as they answer, by the first word of each line."""
    lines: dict[str, str] = {}
    while "or" not in lines and (line := stream.readline()):
        name, _, rest = line.partition(" ")
        lines[name] = rest.strip()
    return lines


@dataclass
class Load:
    """Requests one after another, until it is told to stop; what was answered, and by which release."""

    url: str
    stop: Event = field(default_factory=Event)
    answers: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)

    def __call__(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self.stop.is_set():
                answer = client.post(f"{self.url}/v1/models/offers:predict", json=QUESTION)
                versions = answer.json()["predictions"][0]["versions"] if answer.status_code == 200 else {}
                self.answers.append((time.monotonic(), answer.status_code, versions))
                self.stop.wait(0.02)


@contextmanager
def loaded(url: str) -> Iterator[list[Load]]:
    loads = [Load(url) for _ in range(2)]
    threads = [Thread(target=load) for load in loads]
    for thread in threads:
        thread.start()
    try:
        yield loads
    finally:
        for load in loads:
            load.stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.nightly)])
def test_promotions_and_rollbacks_lose_no_request(bank: Bank, shop_run: ShopRun, tmp_path: Path, rounds: int) -> None:
    second_bundle = other_bundle(shop_run, tmp_path / "second")
    dearer = WARRANTIES.replace("value: 30", "value: 31", 1)
    first = bank.release(shop_run.bundle, WARRANTIES)
    second = bank.release(shop_run.bundle, dearer)
    third = bank.release(second_bundle, dearer)
    told = offers(bank.home, "model", "promote", first)
    assert "no service runs here" in told.stdout, told.stderr

    def commanded(*arguments: object) -> float:
        began = time.monotonic()
        told = offers(bank.home, "model", *arguments)
        assert told.returncode == 0, told.stderr
        return time.monotonic() - began

    with served(bank.home) as (url, _), loaded(url) as loads:
        for _ in range(rounds):
            for release in (second, third):
                commanded("promote", release)
            for _ in range(2):
                commanded("rollback", "-c", "shop", "--reason", "a drill")
            for person in bank.people:
                # What was rolled back needs new approvals.
                approve(bank.ledger, person, second, {})
                approve(bank.ledger, person, third, {})
    tables = DeltaTables.at(str(bank.home / "tables"), Settings())
    heads = heads_in(" ".join(ledger_heads(tables)))
    assert len(heads) >= 4
    assert verify(bank.ledger.store, heads).holds
    assert offers(bank.home, "audit", "verify", "--head", bank.home / "tables").returncode == 0
    answers = sorted((answer for load in loads for answer in load.answers), key=lambda answer: answer[0])
    assert {status for _, status, _ in answers} == {200}
    steps = [(versions["model"], versions["catalogue"]) for _, _, versions in answers]
    switches = [step for place, step in enumerate(steps) if place == 0 or steps[place - 1] != step]
    state = bank.ledger.state()
    expected = [
        (state.releases[name].act.bundle, state.releases[name].act.catalogue) for name in (first, second, third)
    ]
    # Both clients' answers lie beside each other at a switch.
    assert list(dict.fromkeys(switches)) == expected
    assert switches[-1] == expected[0]
    kinds = [entry.act.kind for entry in bank.ledger.entries() if entry.act.kind != "approved"]
    assert kinds[-8 * rounds :] == (["promoting", "promoted"] * 2 + ["promoting", "rolled back"] * 2) * rounds


@pytest.mark.slow
def test_a_lone_promotion_is_finished_by_whoever_comes_and_a_broken_one_is_returned(
    bank: Bank, shop_run: ShopRun, tmp_path: Path
) -> None:
    first = bank.release(shop_run.bundle, WARRANTIES)
    second = bank.release(shop_run.bundle, WARRANTIES.replace("value: 30", "value: 31", 1))
    third = bank.release(other_bundle(shop_run, tmp_path / "second"), WARRANTIES)
    bank.write(Promoting(release=first))
    with served(bank.home) as (url, process):
        awaited(lambda: bank.ledger.state().champion("shop"))
        golden = bank.home / "releases" / third / "bundle" / "golden.json"
        golden.write_text(json.dumps(json.loads(golden.read_text())))
        bank.write(Promoting(release=third))
        awaited(lambda: bank.ledger.state().line("shop").promoting is None)
        returned = bank.ledger.entries()[-1].act
        assert returned.kind == "returned"
        assert "golden.json was changed" in returned.reason
        assert httpx.post(f"{url}/v1/models/offers:predict", json=QUESTION, trust_env=False).status_code == 200
        bank.write(Promoting(release=second))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        # It has ended before it could be asked to.
        process.send_signal = lambda number: None  # type: ignore[method-assign]
        process.returncode = 0
    with served(bank.home):
        awaited(lambda: bank.ledger.state().line("shop").promoting is None)
    champion = bank.ledger.state().champion("shop")
    assert champion is not None
    assert champion.name == second


def awaited(asked: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (answer := asked()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer
    return answer


def asked(url: str, first: int) -> set[str]:
    """Ask about 500 customers; the names of the models that answered."""
    models = set[str]()
    for start in range(first, first + 500, 50):
        rows = [QUESTION["instances"][0] | {"customer_id": f"c{place}"} for place in range(start, start + 50)]
        answer = httpx.post(
            f"{url}/v1/models/offers:predict", json={"instances": rows}, trust_env=False, timeout=DEADLINE
        )
        assert answer.status_code == 200, answer.text
        models |= {prediction["versions"]["model"] for prediction in answer.json()["predictions"]}
    return models


def predictor_of(release: Path) -> int:
    """The process that serves a release's bundle, by its command line."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serving.predictor" in command and str(release / "bundle").encode() in command:
            return int(directory.name)
    raise AssertionError(f"no predictor of {release}")


def share(bank: Bank) -> float:
    """The share of the customers whom a canary answers, as the ranker is told."""
    routing = json.loads((bank.home / "serve" / "routing.json").read_text())
    return sum(arm["share"] for one in routing.get("experiments", []) for arm in one["arms"])


def ended(bank: Bank) -> Any:
    """What has ended the last promotion; None while it is under way."""
    act = bank.ledger.entries()[-1].act
    return act if act.kind in ("promoted", "returned") else None


@pytest.mark.nightly
def test_a_canary_outlives_its_service_and_ends_when_its_predictor_does_or_a_person_says_so(
    bank: Bank, shop_run: ShopRun, tmp_path: Path
) -> None:
    first = bank.release(shop_run.bundle, WARRANTIES)
    second = bank.release(other_bundle(shop_run, tmp_path / "second"), WARRANTIES)
    third = bank.release(shop_run.bundle, WARRANTIES.replace("value: 30", "value: 31", 1))
    fourth = bank.release(shop_run.bundle, WARRANTIES.replace("value: 30", "value: 32", 1))
    by_steps = ("--steps", "50", "--customers", "200")
    assert offers(bank.home, "model", "promote", first).returncode == 0
    refused = offers(bank.home, "model", "canary", second, *by_steps)
    assert (refused.returncode, "start 'offers serve' first" in refused.stderr) == (2, True)

    with served(bank.home) as (url, process):
        # Its predictor ends: the champion answers everybody, and the ledger says why.
        assert offers(bank.home, "model", "canary", second, *by_steps).returncode == 0
        awaited(lambda: share(bank) == 0.5)
        bundle = bank.ledger.state().releases[second].act.bundle
        awaited(lambda: bundle in asked(url, 0))
        os.kill(predictor_of(bank.home / "releases" / second), signal.SIGKILL)
        act = awaited(lambda: ended(bank))
        assert (act.kind, "has ended with exit code" in act.reason) == ("returned", True)
        assert share(bank) == 0
        assert asked(url, 0) == {bank.ledger.state().releases[first].act.bundle}
        # A person ends it.
        assert offers(bank.home, "model", "canary", third, *by_steps).returncode == 0
        awaited(lambda: share(bank) == 0.5)
        assert "a canary; " in offers(bank.home, "model", "list").stdout
        told = offers(bank.home, "model", "rollback", "-c", "shop", "--reason", "too many calls")
        assert "returned; the champion answers everybody" in told.stdout, told.stderr
        awaited(lambda: share(bank) == 0)
        # The service is killed, and the next one goes on.
        assert offers(bank.home, "model", "canary", fourth, *by_steps, "--bake", "0.05m").returncode == 0
        awaited(lambda: share(bank) == 0.5)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.send_signal = lambda number: None  # type: ignore[method-assign]
        process.returncode = 0
    with served(bank.home) as (url, _):
        awaited(lambda: share(bank) == 0.5)
        asked(url, 1000)
        assert awaited(lambda: ended(bank)).kind == "promoted"
        awaited(lambda: share(bank) == 0)
    champion = bank.ledger.state().champion("shop")
    assert champion is not None
    assert champion.name == fourth
    steps = [entry.act for entry in bank.ledger.entries() if entry.act.kind == "canary step"]
    assert [act.share for act in steps] == [0.5, 0.5, 0.5, 1.0]
    assert "customers of challenger" in steps[-1].evidence
    assert verify(bank.ledger.store).holds
