"""The serving part of `make bench`: predictor and ranker beside a floor that only carries, and beside the usual way.

Two cores hold everything, this client included. What is compared takes turns, so that a busy machine troubles both.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import psutil
from rich.table import Table

from benchmarks.floor import tensor
from benchmarks.load import Load, answer, closed_loop, constant_rate
from benchmarks.material import CONTRACT, Material, console, table
from offers.bundle import bundle as bundles
from serving.local import Running, services
from serving.predictor.model import Predictor
from serving.protocol.tensor import Tensor
from tests.support.services import Service, serving

CORES = 2
RATE = 100.0
"""Requests a second that the floor and the ranker carry with ease."""
CUSTOMERS = 500
LIBRARIES = ("xgboost", "scikit-learn")
"""Whose trees the usual way scores with."""
CONCURRENCIES = (1, 2, 4, 8, 16, 32)
CALLS = 3000
CARRIED = 100.0
"""Milliseconds within which 99 % are answered at a rate that is carried: no queue grows."""

HEADINGS = ("p50, ms", "p95, ms", "p99, ms", "CPU, ms")

Spell = Callable[[int], Load]
"""A load of some seconds on the service at a port."""


@dataclass(frozen=True)
class Target:
    """A transformer that answers at `port`, and the processes that do the work: itself and its predictor."""

    port: int
    processes: tuple[psutil.Process, ...]

    @classmethod
    def of(cls, transformer: Service | Running, predictor: Service | Running) -> Self:
        port = int(transformer.url.rpartition(":")[2])
        return cls(port, tuple(psutil.Process(service.process.pid) for service in (transformer, predictor)))

    def meet(self, spell: Spell) -> "Met":
        before = self._cpu()
        load = spell(self.port)
        return Met(load, self._cpu() - before)

    def _cpu(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


@dataclass(frozen=True)
class Met:
    """A load, and the CPU time in seconds that the two processes took for it."""

    load: Load
    cpu: float

    def figures(self) -> list[float]:
        """Milliseconds of a request: percentiles of its latency, and its CPU time, which other programs swell less."""
        return [*map(self.load.ms, (50, 95, 99)), self.cpu / len(self.load.latencies) * 1e3]


def main(material: Material) -> None:
    with two_cores(), services(material.bundle, CONTRACT, material.scratch / "logs") as running:
        ranker = Target.of(running.ranker, running.predictor)
        _one_customer(material, ranker)
        _many_customers(material, ranker)
        _predictor_alone(material)
        _capacity(material, ranker)


@contextmanager
def two_cores() -> Iterator[None]:
    """Hold this process, and those it starts, to two cores where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        console.print(f"[bold yellow]ALL {os.cpu_count()} CORES: this system can't hold processes to two[/bold yellow]")
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:CORES])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _one_customer(material: Material, ranker: Target, rounds: int = 8, seconds: float = 3.0) -> None:
    requests = material.requests(1, 1000)
    loads: dict[str, Spell] = {
        "one at a time": lambda port: closed_loop(port, requests, 1, seconds),
        f"{RATE:g}/s, constant": lambda port: constant_rate(port, requests, RATE, seconds, connections=8),
    }
    title = "One customer with 12 offers: the ranker beside a KServe transformer and predictor that only carry"
    figures = table(title, "load", "service", *HEADINGS, "requests/s", "errors")
    with _floor(material, answer(ranker.port, requests[0])) as floor:
        for name, spell in loads.items():
            carrying, ranking = by_turns(spell, floor, ranker, rounds)
            _add(figures, carrying, name, "floor")
            _add(figures, ranking, "", "ranker")
            pairs = zip(ranking.figures(), carrying.figures(), strict=True)
            figures.add_row("", "times", *(f"{ours / theirs:.2f}" for ours, theirs in pairs), end_section=True)
    console.print(figures)
    console.print("to reach: p50 <= 2 times the floor's, p99 <= 3 times\n")


@contextmanager
def _floor(material: Material, reply: bytes) -> Iterator[Target]:
    """Serve the floor, which carries what the ranker sends and gets for one customer."""
    columns = {name: values.tolist() for name, values in material.pairs().items()}
    carried = material.scratch / "carried.json"
    carried.write_text(json.dumps({"columns": columns, "answer": json.loads(reply)}), "utf-8")
    logs = material.scratch / "logs"
    with serving("benchmarks.floor", logs / "floor-predictor.log") as predictor:
        where = ("--carry", carried, "--predictor_host", f"127.0.0.1:{predictor.grpc_port}")
        with serving("benchmarks.floor", logs / "floor.log", *where) as transformer:
            answer(transformer.http_port, material.requests(1, 1)[0])
            yield Target.of(transformer, predictor)


def _many_customers(material: Material, ranker: Target, rounds: int = 3, seconds: float = 8.0) -> None:
    requests = material.requests(CUSTOMERS, 8)
    loads: dict[str, Spell] = {
        f"{n} at a time": lambda port, n=n: closed_loop(port, requests, n, seconds) for n in (1, 2)
    }
    title = f"{CUSTOMERS} customers with 12 offers in one request: the ranker beside the usual way"
    figures = table(title, "load", "service", *HEADINGS, "customers/s", "errors")
    for trees in LIBRARIES:
        with _usual_way(material, trees) as usual:
            for name, spell in loads.items():
                plain, ranking = by_turns(spell, usual, ranker, rounds)
                _add(figures, plain, name, f"usual way, {trees}", customers=CUSTOMERS)
                _add(figures, ranking, "", "ranker", customers=CUSTOMERS)
                times = f"{ranking.load.rate / plain.load.rate:.1f}"
                figures.add_row("", "times", *[""] * len(HEADINGS), times, end_section=True)
    console.print(figures)
    console.print("to reach: >= 5 times the customers/s of the usual way\n")


@contextmanager
def _usual_way(material: Material, trees: str) -> Iterator[Target]:
    """Serve the same offers, and as large a model of one library's trees, the usual way."""
    rows = material.scratch / "rows.parquet"
    material.rows.to_parquet(rows)
    logs, contract = material.scratch / "logs", ("--contract", CONTRACT)
    fitted = (*contract, "--rows", rows, "--trees", trees)
    with serving("benchmarks.stock", logs / "usual-predictor.log", *fitted) as predictor:
        where = ("--predictor_host", f"127.0.0.1:{predictor.http_port}")
        with serving("benchmarks.stock", logs / "usual.log", *contract, *where) as transformer:
            answer(transformer.http_port, material.requests(CUSTOMERS, 1)[0])
            yield Target.of(transformer, predictor)


def _predictor_alone(material: Material) -> None:
    """What the predictor does for one call of 12 rows, step by step, each call beside the booster's own."""
    predictor = Predictor("offers", bundles.load(material.bundle))
    model, schema = predictor.bundle.model, predictor.schema
    tensors = [
        Tensor(name, column.datatype, column.shape, raw=column._raw_data)
        for name, column in ((name, tensor(name, values.tolist())) for name, values in material.pairs().items())
    ]
    rows = schema.from_tensors(tensors)
    matrix = model.encoder.encode(rows)
    steps: dict[str, Callable[[], Any]] = {
        "check and type the tensors": lambda: schema.from_tensors(tensors),
        "encode": lambda: model.encoder.encode(rows),
        "encode, score, calibrate": lambda: model.propensity(rows),
        "tensors to propensities, the whole": lambda: model.propensity(schema.from_tensors(tensors)),
        "booster alone, encoded matrix": lambda: model.booster.inplace_predict(matrix),
    }
    seconds = np.array([[_seconds(step) for step in steps.values()] for _ in range(CALLS)])
    figures = table(
        f"The predictor's work on {len(matrix)} rows, in process: {CALLS} calls", "step", "p50, ms", "p99, ms"
    )
    for name, (half, most) in zip(steps, np.percentile(seconds * 1e3, (50, 99), axis=0).T, strict=True):
        figures.add_row(name, f"{half:.3f}", f"{most:.3f}")
    console.print(figures)
    console.print("to reach: encode, score, calibrate <= 1.0 ms\n")


def _capacity(material: Material, ranker: Target, seconds: float = 5.0, long: float = 60.0) -> None:
    """The most that the ranker carries, then four fifths of it, however long the answers take.

    A client that waits for answers asks at the ranker's best moments. Hence its best rate is offered at a constant
    rate, and then less and less, until no queue grows over twenty seconds: that is the capacity.
    """
    requests, rate = material.requests(1, 1000), 0.0
    title = f"One customer with 12 offers: the ranker's capacity, and 80 % of it for {long:g} s"
    figures = table(title, "load", *HEADINGS, "requests/s", "errors")
    for n in CONCURRENCIES:
        met = ranker.meet(lambda port, n=n: closed_loop(port, requests, n, seconds))
        rate = max(rate, met.load.rate)
        _add(figures, met, f"{n} at a time")
    while True:
        met = _offered(ranker, requests, rate, 4 * seconds)
        if met.load.ms(99) <= CARRIED:
            break
        _add(figures, met, f"{rate:.0f}/s, constant: queues")
        rate *= 0.95
    _add(figures, met, f"{rate:.0f}/s, constant: capacity")
    rate *= 0.8
    _add(figures, _offered(ranker, requests, rate, long), f"{rate:.0f}/s, constant: 80 %")
    console.print(figures)
    console.print("to reach at the constant rate, waiting to be sent included: no error, p99 <= 50 ms\n")


def _offered(target: Target, requests: list[bytes], rate: float, seconds: float) -> Met:
    return target.meet(lambda port: constant_rate(port, requests, rate, seconds))


def by_turns(spell: Spell, theirs: Target, ours: Target, rounds: int) -> tuple[Met, Met]:
    met: dict[Target, list[Met]] = {theirs: [], ours: []}
    for number in range(rounds):
        for target in (theirs, ours) if number % 2 else (ours, theirs):
            met[target].append(target.meet(spell))
    return _together(met[theirs]), _together(met[ours])


def _together(spells: list[Met]) -> Met:
    return Met(Load.of([met.load for met in spells]), sum(met.cpu for met in spells))


def _add(found: Table, met: Met, *names: str, customers: int = 1) -> None:
    figures = (f"{figure:.2f}" for figure in met.figures())
    found.add_row(*names, *figures, f"{met.load.rate * customers:.0f}", str(met.load.errors))


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
