"""The log part of `make bench`: what it costs to log each decision, and what it takes to read the log again.

Two cores hold ranker, predictor, shipper and this client. What is compared takes turns, so that a busy machine
troubles both.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from deltalake import DeltaTable

from benchmarks.load import Load, closed_loop, constant_rate
from benchmarks.log_tables import DECISIONS, OUTCOMES, write
from benchmarks.material import CONTRACT, Material, console, table
from benchmarks.serving import CUSTOMERS, Target, by_turns, two_cores
from offers.bundle import bundle as bundles
from offers.decisions import history, reproduction
from offers.decisions.pseudonym import Pseudonyms
from offers.decisions.records import DECISIONS as TABLE
from offers.decisions.segment import occupied, sealed
from offers.decisions.spool import Spool, SpoolLimits
from offers.experiments.assignment import positions
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.local import Log, Services, services

EVENTS, FLUSH, EVENT_BYTES = 100_000, 1_000, 2_700
"""An event of one decision about 12 offers has about so many bytes."""
REDONE = 10_000
ASSIGNED = 1_000_000


def main(material: Material) -> None:
    _spool_alone(material.scratch / "spool-alone")
    _assignment()
    with two_cores():
        rate = _side_by_side(material)
        _under_load(material, 0.8 * rate)
    _joined(material.scratch / "joined")


def _side_by_side(material: Material, rounds: int = 8, seconds: float = 3.0) -> float:
    """Compare the ranker with its log and without; returns requests a second that it carries with the log."""
    figures = table("The ranker without its log, and with it", "load", "without", "with", "times", "to reach")
    with _ranker(material, "plain", False) as plain, _ranker(material, "logging", True) as logging:
        targets = [Target.of(one.ranker, one.predictor) for one in (plain, logging)]
        for customers, limit, spell in ((1, 1.01, seconds), (CUSTOMERS, 1.05, 2 * seconds)):
            requests = material.requests(customers, 1000 if customers == 1 else 8)
            theirs, ours = by_turns(
                lambda port, requests=requests, spell=spell: closed_loop(port, requests, 1, spell), *targets, rounds
            )
            name = "one customer" if customers == 1 else f"{customers} customers"
            for what, one, other in (
                ("p50, ms", theirs.load.ms(50), ours.load.ms(50)),
                ("CPU, ms", theirs.figures()[-1], ours.figures()[-1]),
            ):
                goal = f"<= {limit:.2f}" if what.startswith("p50") else ""
                figures.add_row(f"{name}: {what}", f"{one:.2f}", f"{other:.2f}", f"{other / one:.3f}", goal)
        # Turns, since from one moment to the next a machine's pace differs by more than the log costs.
        requests = material.requests(1, 1000)
        plain_load, log_load = by_turns(lambda port: closed_loop(port, requests, 16, seconds), *targets, rounds)
    rates = [met.load.rate for met in (plain_load, log_load)]
    ratio = f"{rates[1] / rates[0]:.3f}"
    figures.add_row("requests/s, 16 at a time", *(f"{rate:.0f}" for rate in rates), ratio, ">= 0.95")
    console.print(figures)
    return rates[1]


@contextmanager
def _ranker(material: Material, name: str, logs: bool) -> Iterator[Services]:
    directory = material.scratch / f"log-{name}"
    key = directory.with_suffix(".key")
    Pseudonyms.at(key)
    decisions = Log(str(directory / "tables"), key) if logs else None
    with services(material.bundle, CONTRACT, directory / "serve", decisions=decisions) as running:
        yield running


def _under_load(material: Material, rate: float, seconds: float = 60.0) -> None:
    """Offer a constant rate and two requests about many customers a second; then nothing may be missing."""
    with _ranker(material, "loaded", True) as running:
        assert running.shipper is not None
        shipper = psutil.Process(running.shipper.process.pid)
        port, spool = running.ranker.bound["http_port"], material.scratch / "log-loaded" / "serve" / "spool"
        crowd, loads = material.requests(CUSTOMERS, 8), list[Load]()
        beside = threading.Thread(target=lambda: loads.append(constant_rate(port, crowd, 2, seconds, 4)))
        peak = _Peak(shipper)
        beside.start()
        with peak:
            single = constant_rate(port, material.requests(1, 1000), rate, seconds)
            beside.join()
            ended = time.perf_counter()
            while sealed(spool) or (occupied(spool) and _size(spool)):
                time.sleep(0.05)
            shipped = time.perf_counter() - ended
    tables = DeltaTables.at(str(material.scratch / "log-loaded" / "tables"), Settings())
    errors = single.errors + loads[0].errors
    answered = len(single.latencies) + CUSTOMERS * len(loads[0].latencies)
    rows = tables.open(TABLE).to_pyarrow_dataset().count_rows()
    title = f"{rate:.0f} requests/s and 2 of {CUSTOMERS} customers, {seconds:g} s"
    figures = table(title, "what", "measured", "to reach")
    figures.add_row("answered decisions that are not in the tables", str(answered - rows), "0")
    figures.add_row("errors; p99 of one customer, ms", f"{errors}; {single.ms(99):.1f}", "0")
    figures.add_row("all shipped after the end, s", f"{shipped:.1f}", "<= 10")
    figures.add_row("shipper at its peak, MiB", f"{peak.mib:.0f}", "< 350")
    _redo(material, tables, figures.add_row)
    console.print(figures)


def _redo(material: Material, tables: DeltaTables, add_row: Callable[..., None]) -> None:
    decisions = history.read(tables).slice(0, REDONE)
    bundle = bundles.load(material.bundle)
    started = time.process_time()
    redone = reproduction.redo(decisions, history.kept(tables), bundle.name, bundle.model.propensity)
    seconds = time.process_time() - started
    differing = len(redone.differing) + redone.rescored
    add_row(f"{redone.decisions} decisions made again by policy and bundle, s of CPU", f"{seconds:.1f}", "<= 15")
    add_row("of them otherwise, to a bit", str(differing), "0")


class _Peak:
    """The most memory that a process holds while the block runs, looked at ten times a second."""

    def __init__(self, process: psutil.Process) -> None:
        self.mib = 0.0
        self._process, self._over = process, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.mib = max(self.mib, self._process.memory_info().rss / 2**20)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _size(spool: Path) -> int:
    """Bytes of segments that are being written."""
    return sum(path.stat().st_size for path in spool.glob("*.open"))


def _spool_alone(directory: Path) -> None:
    spool = Spool(directory, "bench", SpoolLimits(most_bytes=2**31, durability="power"))
    payload = json.dumps({"content": "x" * (EVENT_BYTES - 16)}).encode()

    async def write_all() -> None:
        for number in range(EVENTS):
            spool.append(payload)
            if number % FLUSH == FLUSH - 1:
                await spool.durable()

    started = time.perf_counter()
    asyncio.run(write_all())
    seconds = time.perf_counter() - started
    spool.seal()
    console.print(
        f"Spool alone: {EVENTS / seconds:,.0f} events of {EVENT_BYTES} bytes a second, fdatasync after each {FLUSH:,}; "
        "to reach: >= 20,000\n"
    )


def _assignment() -> None:
    names = [f"{number:064x}" for number in range(ASSIGNED)]
    started = time.process_time()
    share = float((positions("dearer", names) < 0.1).mean())
    seconds = time.process_time() - started
    told = f"{ASSIGNED:,} customers assigned in {seconds:.2f} s of CPU, {share:.2%} for 10 %"
    console.print(f"{told}; to reach: <= 2 s, within 0.2 %\n")


def _joined(directory: Path) -> None:
    """Join in a process of its own, whose memory is that of the join."""
    console.print(f"writing {DECISIONS:,} decisions and {OUTCOMES:,} outcomes", style="dim")
    write(directory, np.random.default_rng(1))
    call = [sys.executable, "-m", "benchmarks.log_tables", str(directory)]
    found = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    files = len(DeltaTable(str(directory / "decisions")).file_uris())
    console.print(
        f"{DECISIONS:,} decisions of 12 offers in {files} files joined with {OUTCOMES:,} outcomes: "
        f"{found['seconds']:.1f} s, {found['cpu']:.1f} s of CPU, {found['mib']:.0f} MiB at the peak; "
        f"{found['accepted']:,} accepted; to reach: <= 15 s, <= 1024 MiB\n"
    )
