"""The layer's part of `make bench`: what an update costs, and what it adds to scoring."""

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from benchmarks.material import Material, console, table
from offers.bundle import bundle as bundles
from offers.model.propensity import PropensityModel
from offers.training.dynamics import learn

LABELS, BULK, OFFERS = 250, 200_000, 12
CALLS, RUNS = 500, 5


def main(material: Material) -> None:
    model = bundles.load(material.bundle).model
    dataset, contract = material.dataset, material.contract
    matrix, layer = dataset.encode(contract), model.layer
    assert layer is not None
    rows, labels = matrix[-LABELS:], dataset.labels[-LABELS:]

    def update() -> object:
        return learn(layer, rows, labels, model.tree_margin(rows))

    figures = table("The layer, CPU time: medians", "what", "measured", "to reach")
    figures.add_row(f"update from {LABELS} labels", f"{_cpu(update, RUNS):.3f} s", "<= 0.5 s")
    figures.add_row("memory at its peak", f"{_peak(update):.1f} MiB", "<= 50 MiB")
    one = _added(model, matrix[:OFFERS], CALLS) * 1000
    figures.add_row(f"one customer, {OFFERS} rows: added", f"{one:.3f} ms", "<= 0.1 ms")
    many = np.tile(matrix, (BULK // len(matrix) + 1, 1))[:BULK]
    share = _added(model, many, RUNS) / _cpu(lambda: model.tree_margin(many), RUNS)
    figures.add_row(f"{BULK:,} rows at once: added to the trees' time", f"{share:.1%}", "<= 15 %")
    console.print(figures)


def _added(model: PropensityModel, rows: np.ndarray, calls: int) -> float:
    """CPU seconds that the layer adds to the trees' scoring of these rows."""
    trees, layer = model.tree_margin(rows), model.layer
    assert layer is not None
    return _cpu(lambda: layer.mixed(trees, rows), calls)


def _cpu(call: Callable[[], object], calls: int) -> float:
    """Median CPU seconds of a call, after one that does not count."""
    call()
    seconds = []
    for _ in range(calls):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def _peak(call: Callable[[], object]) -> float:
    """MiB that a call holds at most beyond what it was given."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20
