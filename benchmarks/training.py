"""The training part of `make bench`: the pipeline, quality by how it is measured, encoding and scoring."""

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import xgboost as xgb

from benchmarks.material import CONTRACT, Material, console, table
from offers.contract.contract import Contract
from offers.data.dataset import Dataset, origin
from offers.evaluation import metrics
from offers.evaluation.refits import folded_propensity, rolling_propensity
from offers.model.encoder import Encoder
from offers.training import learners
from offers.training.learners import BoostedTrees
from pipelines import local
from pipelines.compilation import compile_pipeline

STEPS = ("ingest", "validate", "prepare", "train", "evaluate", "gate", "package")
ROWS = 1_000_000


def main(material: Material, runs: int = 3) -> None:
    _pipeline(material, runs)
    _quality(material.contract, material.dataset)
    _scoring(material.contract, material.dataset, runs=5)


def _pipeline(material: Material, runs: int) -> None:
    """Each step of the compiled pipeline under kfp, beside the same library calls made directly."""
    package = compile_pipeline("training", material.scratch / "training.yaml")
    arguments = {"contract": CONTRACT, "source": material.source}
    through_kfp, direct, peaks = [], [], []
    for number in range(runs):
        console.print(f"pipeline, run {number + 1} of {runs}", style="dim")
        started = time.perf_counter()
        with _peak_memory() as peak:
            outcome = local.run(package, arguments, material.scratch / f"run-{number}")
        if not outcome.succeeded:
            sys.exit(f"the pipeline failed: {outcome.mistake or outcome.log.read_text()[-2000:]}")
        seconds = {name: outcome.steps[name].seconds for name in STEPS}
        through_kfp.append(seconds | {"total": time.perf_counter() - started})
        direct.append(_direct(material, material.scratch / f"direct-{number}"))
        peaks.append(peak)
    title = f"Training pipeline, {CONTRACT}, search off: medians of {runs} runs"
    figures = table(title, "step", "pipeline, s", "library calls, s", "peak memory, MiB")
    for step in (*STEPS, "total"):
        memory = statistics.median(max(peak.values()) if step == "total" else peak.get(step, 0) for peak in peaks)
        figures.add_row(step, f"{_median(through_kfp, step):.1f}", f"{_median(direct, step):.1f}", f"{memory:.0f}")
    console.print(figures)
    console.print("to reach: total <= 90 s, every step <= 1024 MiB\n")


def _direct(material: Material, directory: Path) -> dict[str, float]:
    """Seconds of each step as a library call in this process."""
    seconds = {name: _seconds(step) for name, step in material.steps(directory).items()}
    return seconds | {"total": sum(seconds.values())}


@contextmanager
def _peak_memory() -> Iterator[dict[str, float]]:
    """Highest resident memory (MiB) of each component's process, as the kernel counts it (VmHWM), by step."""
    peak: dict[str, float] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                try:
                    command = process.cmdline()
                    step = command[command.index("--function_to_execute") + 1]
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except (psutil.Error, ValueError, IndexError, OSError):
                    continue
                high = next((line for line in status.splitlines() if line.startswith("VmHWM")), None)
                if high:
                    peak[step] = max(peak.get(step, 0.0), int(high.split()[1]) / 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _quality(contract: Contract, dataset: Dataset) -> None:
    """The same model read in three ways: at random, trained once, and refitted through time."""
    matrix, labels, encoder = dataset.encode(contract), dataset.labels, Encoder.of(contract)
    learner = BoostedTrees(contract.model, tuple(encoder.feature_types))
    first = origin(contract, len(labels))
    later_labels, months = labels[first:], dataset.periods[first:]
    once = learners.train(contract, contract.model, matrix[:first], labels[:first])
    readings = {
        "random split, 5 folds": [folded_propensity(learner, matrix, labels, contract, seed=0)],
        "in time order, trained once": [once.propensity(dataset.frame.iloc[first:])],
        f"in time order, refitted every {contract.evaluation.refit_every} rows, mean of 5 alignments": [
            rolling_propensity(learner, matrix, labels, contract, alignment) for alignment in (0, 100, 200, 300, 400)
        ],
    }
    figures = table("Quality, by how it is measured", "measured", "AUC", "range", "AUC within a month", "ECE")
    for name, propensities in readings.items():
        whole = len(propensities[0]) == len(labels)
        true, period = (labels, dataset.periods) if whole else (later_labels, months)
        scores = [metrics.score(true, propensity, contract.evaluation.contact_share) for propensity in propensities]
        auc = [score["auc"].value for score in scores]
        within = [metrics.within_periods(true, propensity, period, 100) or 0.0 for propensity in propensities]
        ece = [score["ece"].value for score in scores]
        spread = f"{min(auc):.3f}-{max(auc):.3f}" if len(auc) > 1 else ""
        means = (f"{statistics.mean(values):.3f}" for values in (auc, within, ece))
        mean_auc, mean_within, mean_ece = means
        figures.add_row(name, mean_auc, spread, mean_within, mean_ece)
    console.print(figures)


def _scoring(contract: Contract, dataset: Dataset, runs: int) -> None:
    """Encode and score a million rows, beside the booster alone on a matrix that is ready."""
    small = dataset.frame
    fitted = learners.train(contract, contract.model, dataset.encode(contract), dataset.labels)
    rows = pd.concat([small] * (ROWS // len(small) + 1), ignore_index=True).iloc[:ROWS]
    words = rows.astype({column.name: object for column in contract.inputs if column.type == "category"})
    encoder = Encoder.of(contract)
    matrix = encoder.encode(rows)
    fitted.booster.set_param({"nthread": 2})

    typed_rate = ROWS / _median_seconds(lambda: encoder.encode(rows), runs)
    words_rate = ROWS / _median_seconds(lambda: encoder.encode(words), runs)
    before = psutil.Process().memory_info().rss
    whole, alone = _alternating(lambda: fitted.propensity(rows), lambda: fitted.booster.inplace_predict(matrix), runs)
    growth = (psutil.Process().memory_info().rss - before) / 2**20

    title = f"Encoding and scoring {ROWS:,} rows of {len(encoder.features)} columns: medians of {runs} runs"
    figures = table(title, "what", "measured", "to reach")
    figures.add_row("encode typed columns", f"{typed_rate:,.0f} rows/s", ">= 5,000,000")
    figures.add_row("encode plain strings", f"{words_rate:,.0f} rows/s", ">= 1,500,000")
    figures.add_row("bundle: encode, predict, calibrate", f"{ROWS / whole:,.0f} rows/s", "")
    figures.add_row(f"xgboost {xgb.__version__} alone, prepared matrix", f"{ROWS / alone:,.0f} rows/s", "")
    figures.add_row("bundle beside xgboost alone", f"{alone / whole:.2f}", ">= 0.80")
    figures.add_row("memory left behind by scoring", f"{growth:.0f} MiB", "bounded")
    console.print(figures)


def _alternating(first: Callable[[], object], second: Callable[[], object], runs: int) -> tuple[float, float]:
    """Median seconds of two calls that take turns, so that a busy machine troubles both alike."""
    pairs = [(_seconds(first), _seconds(second)) for _ in range(runs)]
    return tuple(float(np.median(column)) for column in zip(*pairs, strict=True))  # type: ignore[return-value]


def _median_seconds(call: Callable[[], object], runs: int) -> float:
    return statistics.median(_seconds(call) for _ in range(runs))


def _median(runs: list[dict[str, float]], step: str) -> float:
    return statistics.median(run[step] for run in runs)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
