"""The part `governance` of `make bench`: a large ledger, registering, and promotions and rollbacks under load."""

import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from threading import Event

import psutil

from benchmarks.governance_ledger import ENTRIES, written
from benchmarks.load import Load, constant_rate
from benchmarks.material import CONTRACT, Material, console, table
from benchmarks.serving import two_cores
from cli.mirror import mirrored
from cli.release import registered
from offers.bundle.bundle import load_model
from offers.bundle.writing import save_model
from offers.governance.access import open_to_write
from offers.governance.approval import approve
from offers.governance.audit import verify
from offers.governance.entries import KeyAdded, Promoted, RolledBack
from offers.governance.keys import Signer, new_key
from offers.governance.registration import register
from offers.governance.release import make
from offers.model.calibrator import Platt
from offers.policy import catalogue as catalogues
from offers.settings import Settings
from offers.steps import training
from offers.store.directory import DirectoryStore
from offers.store.s3 import make_bucket
from offers.store.store import Store, open_store
from tests.support.seaweedfs import ours, seaweedfs

RATE, USUAL, ROUNDS, TURNS, LOADED = 100, 20.0, 10, 3, 15.0
"""Requests a second; seconds before anything changes; promotions, and rollbacks; registrations of each kind; seconds
within which MLflow has loaded."""


def main(material: Material) -> None:
    _verification(material.scratch / "audit")
    bundles = material.bundle, _other(material)
    _registering(material.scratch, bundles)
    with two_cores():
        _switching(material, bundles)


def _other(material: Material) -> Path:
    """The model of the bundle with another calibration, as a bundle of its own."""
    run, parent = material.bundle.parents[1], material.scratch / "other"
    model = shutil.copytree(run / "model", parent / "model")
    save_model(replace(load_model(model), calibrator=Platt(intercept=-0.25)), model)
    candidate = training.Candidate(run / "gold", model, run / "result", run / "verdict.json")
    name = training.package(CONTRACT, candidate, parent / "bundles", "", Settings.from_env(), lambda text: None)
    return parent / "bundles" / name


def _verification(directory: Path) -> None:
    figures = table(f"A ledger of {ENTRIES:,} entries is verified", "from", "s", "CPU s", "to reach, s")
    written(here := DirectoryStore(directory / "here"))
    figures.add_row("a directory", *_verified(here), "<= 5")
    (directory / "weed").mkdir()
    with seaweedfs(directory / "weed", ours()) as s3:
        make_bucket("offers", s3)
        written(there := open_store("s3://offers", Settings(s3=s3)))
        figures.add_row("SeaweedFS on this machine", *_verified(there), "<= 30")
    console.print(figures)


def _verified(store: Store) -> tuple[str, str]:
    began, cpu = time.perf_counter(), time.process_time()
    audit = verify(store)
    seconds = time.perf_counter() - began, time.process_time() - cpu
    assert audit.holds
    assert audit.entries >= ENTRIES
    return f"{seconds[0]:.1f}", f"{seconds[1]:.1f}"


def _registering(scratch: Path, bundles: tuple[Path, Path]) -> None:
    """Register the bundle of a run, with MLflow, where it makes its database and where that is there."""
    seconds: tuple[list[float], list[float]] = [], []
    for turn in range(TURNS):
        settings = Settings(home=scratch / f"registry-{turn}")
        for bundle, spent in zip(bundles, seconds, strict=True):
            with mirrored(settings):
                # A training takes longer than MLflow to load, which it does meanwhile.
                time.sleep(LOADED)
                began = time.perf_counter()
                registered(str(bundle), settings)
            spent.append(time.perf_counter() - began)
    figures = table(f"What registering adds to a run: medians of {TURNS}", "MLflow's database", "s", "to reach, s")
    for name, spent, goal in zip(("is made", "is there"), seconds, ("<= 6", "<= 3"), strict=True):
        figures.add_row(name, f"{median(spent):.1f}", goal)
    console.print(figures)


def _switching(material: Material, bundles: tuple[Path, Path]) -> None:
    home = material.scratch / "bank"
    bank = _Bank(home)
    text = catalogues.text(CONTRACT)
    first, dearer = bank.release(bundles[0], text), bank.release(bundles[0], f"{text}\n# another edition\n")
    other = bank.release(bundles[1], text)
    bank.command("promote", first)
    requests = material.requests(1, 1000)
    with _served(home) as port:
        usual = Load.of([constant_rate(port, requests, RATE, 2.0) for _ in range(round(USUAL / 2))])
        with _under_load(port, requests) as spells:
            for number in range(ROUNDS):
                bank.there_and_back(*((other, "another bundle") if number % 2 == 0 else (dearer, "a catalogue alone")))
            bank.back_to_a_cold_one(other, home / "releases" / first)
        busy = Load.of(spells)
    figures = table(f"By command, under {RATE} requests/s", "what", "times", "median s", "longest s", "to reach, s")
    for name, spent in bank.seconds.items():
        figures.add_row(name, str(len(spent)), f"{median(spent):.2f}", f"{max(spent):.2f}", bank.goals.get(name, ""))
    console.print(figures)
    console.print(f"before: {len(usual.latencies)} requests, {usual.errors} failed, p99 {usual.ms(99):.1f} ms")
    console.print(
        f"meanwhile: {len(busy.latencies)} requests, {busy.errors} failed, p99 {busy.ms(99):.1f} ms,"
        f" {busy.ms(99) / usual.ms(99):.1f} times; to reach: none failed, 2 times\n"
    )


class _Bank:
    """A ledger with two who approve, and the commands that promote and roll back.

    `seconds` has the time from the start of each command to the ledger's entry that the release serves.
    """

    goals = {  # noqa: RUF012
        "promotion of a catalogue alone": "<= 2",
        "rollback of another bundle": "<= 2",
        "rollback of a catalogue alone": "<= 2",
        "rollback to a predictor that has ended": "<= 20",
    }

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ledger, self.me = open_to_write(Settings(home=home))
        self.people = [self._person(name) for name in ("ann", "bob")]
        self.seconds = defaultdict[str, list[float]](list)

    def _person(self, name: str) -> Signer:
        person = new_key(self.home / "keys" / f"{name}.pem")
        act = KeyAdded(key=person.public.id, public=person.public.text, name=name, roles=("approver",))
        self.ledger.write(self.me, lambda state: act)
        return person

    def release(self, bundle: Path, catalogue: str) -> str:
        name = register(self.ledger, self.me, make(self.home / "releases", bundle, catalogue))
        self.approve(name)
        return name

    def approve(self, name: str) -> None:
        for person in self.people:
            approve(self.ledger, person, name, {})

    def command(self, *arguments: str) -> float:
        command = [str(Path(sys.executable).parent / "offers"), "model", *arguments]
        began = time.time()
        subprocess.run(command, env=_environment(self.home), check=True, capture_output=True)
        last = self.ledger.entries()[-1]
        assert isinstance(last.act, Promoted | RolledBack)
        return last.at.timestamp() - began

    def there_and_back(self, release: str, what: str) -> None:
        cold = what == "another bundle" and not self.seconds
        self.seconds[f"promotion of {what}{', its predictor started' if cold else ''}"] += [
            self.command("promote", release)
        ]
        self.seconds[f"rollback of {what}"] += [self._back()]
        # What was rolled back needs new approvals.
        self.approve(release)

    def back_to_a_cold_one(self, release: str, before: Path) -> None:
        """Roll back where the former predictor has ended meanwhile."""
        self.command("promote", release)
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "serving.predictor" in words and str(before / "bundle") in words:
                process.kill()
        self.seconds["rollback to a predictor that has ended"] += [self._back()]

    def _back(self) -> float:
        return self.command("rollback", "-c", CONTRACT, "--reason", "the bench goes back")


def _environment(home: Path) -> dict[str, str]:
    return os.environ | {"OFFERS_HOME": str(home)}


@contextmanager
def _served(home: Path) -> Iterator[int]:
    """`offers serve`; the port of its ranker."""
    command = [str(Path(sys.executable).parent / "offers"), "serve", "--port", "0"]
    with subprocess.Popen(command, env=_environment(home), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = next(line.split()[1] for line in process.stdout if line.startswith("ranker"))
            next(line for line in process.stdout if line.startswith("or"))
            yield int(address.split("/")[2].rpartition(":")[2])
        finally:
            process.terminate()


@contextmanager
def _under_load(port: int, requests: list[bytes]) -> Iterator[list[Load]]:
    """Requests at a constant rate until the block ends."""
    spells, over = list[Load](), Event()

    def load() -> None:
        while not over.is_set():
            spells.append(constant_rate(port, requests, RATE, 2.0))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load)
        try:
            yield spells
        finally:
            over.set()
            running.result()
