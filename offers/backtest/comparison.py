"""Policies of retraining side by side: each replayed at several block alignments and label delays.

Each case's result is kept in a file, below a directory that is named by everything the result depends on. A run that
was stopped therefore continues where it was, and a repeated run only reads the files.
"""

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import get_args

from threadpoolctl import threadpool_limits

from offers.backtest import baselines, candidate, clock, replay
from offers.backtest import history as history_module
from offers.backtest.baselines import Baseline, scores
from offers.backtest.clock import Clock, Delay
from offers.backtest.history import History
from offers.backtest.replay import Replay
from offers.backtest.results import AlarmAt, BlockFigures, Case, ReplayResult
from offers.backtest.schedule import Schedule, Trigger
from offers.bundle.provenance import libraries
from offers.contract.contract import Contract
from offers.data import dataset
from offers.data.dataset import windows
from offers.drift import examination as watching
from offers.drift import reference, significance, streak, window
from offers.drift import statistics as drift
from offers.errors import DataError
from offers.evaluation import gate, metrics
from offers.files import os_errors
from offers.model import calibrator, design, disbelief, laplace, layer
from offers.model import encoder as features
from offers.model import propensity as model
from offers.monitoring import promise
from offers.monitoring import two_of_three as verdict
from offers.training import calibration, dynamics, learners

SPAN = 1000

_CODE: tuple[ModuleType, ...] = (
    baselines,
    calibration,
    calibrator,
    candidate,
    clock,
    dataset,
    design,
    disbelief,
    drift,
    dynamics,
    features,
    gate,
    history_module,
    laplace,
    layer,
    learners,
    metrics,
    model,
    promise,
    reference,
    replay,
    significance,
    streak,
    verdict,
    watching,
    window,
)


def policies(contract: Contract) -> tuple[Schedule, ...]:
    """List the policies to compare, each without and with a layer.

    They retrain never, by three schedules, every month, on drift, and by two of three signals.
    """
    step = contract.evaluation.refit_every
    plain: list[tuple[Trigger, int]] = [("never", 0), *(("rows", step * factor) for factor in (4, 2, 1))]
    plain += [("month", 0), ("drift", 0), ("two of three", 0)]
    return tuple(Schedule(trigger, learns, every) for trigger, every in plain for learns in (False, True))


def compare(
    history: History,
    cases: Sequence[Case],
    directory: Path,
    workers: int = 2,
    done: Callable[[int, int, str], None] = lambda n, total, name: None,
) -> list[ReplayResult]:
    """Replay every case, or read the result that an earlier run left.

    Parameters
    ----------
    directory : where results are kept
    workers : processes side by side
    done : called with the number of finished cases, the number of all cases, and the name of the latest

    Raises
    ------
    DataError
        the contract has no time order, or too few labelled rows are known when a replay begins
    """
    _refuse(history, cases)
    results_directory = directory / fingerprint(history)
    with os_errors(results_directory):
        results_directory.mkdir(parents=True, exist_ok=True)
        open_cases = [case for case in cases if not _file(results_directory, case).exists()]
        finished = len(cases) - len(open_cases)
        done(finished, len(cases), "")
        for n, name in enumerate(_replayed(history, open_cases, results_directory, workers), finished + 1):
            done(n, len(cases), name)
        return [ReplayResult.model_validate_json(_file(results_directory, case).read_text("utf-8")) for case in cases]


def fingerprint(history: History) -> str:
    """Hash everything that a result depends on: code, libraries, contract, rows, seed."""
    identity = [
        [inspect.getsource(module) for module in _CODE],
        inspect.getsource(measure),
        history.contract.model_dump(mode="json"),
        history.dataset.fingerprint(history.contract),
        history.dataset.periods.tolist(),
        None if history.days is None else history.days.tolist(),
        history.seed,
        libraries(),
    ]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def cases(contract: Contract, alignments: Sequence[int], delays: Sequence[Delay], batch: int = 0) -> list[Case]:
    """List every baseline at every delay, and every policy at every alignment and delay."""
    baselines = product(get_args(Baseline), alignments[:1], delays)
    return [Case(*parts, batch) for parts in (*baselines, *product(policies(contract), alignments, delays))]


def measure(history: History, case: Case) -> ReplayResult:
    """Replay one case, and measure its propensities on the rows after the first training share."""
    started = time.process_time()
    if isinstance(case.policy, Schedule):
        run = Replay(history, case.policy, _start(history, case), case.delay, case.batch).run()
    else:
        run = Replay(history, Schedule("never", False), _start(history, case), case.delay)
        run.propensity = scores(case.policy, history, Clock(history, case.delay))
    contract, origin, labels, periods = (
        history.contract,
        history.origin,
        history.dataset.labels,
        history.dataset.periods,
    )
    spans = [slice(at, min(at + SPAN, len(labels))) for at in range(origin, len(labels), SPAN)]

    def quality(part: slice) -> BlockFigures:
        return BlockFigures.of(labels[part], run.propensity[part], periods[part], contract.evaluation.smallest_segment)

    return ReplayResult(
        policy=case.title,
        schedule=run.policy.schedule if isinstance(case.policy, Schedule) else case.policy,
        learns=run.policy.learns,
        alignment=case.alignment,
        delay=str(case.delay),
        pooled=quality(slice(origin, len(labels))),
        windows=tuple(map(quality, windows(contract, len(labels)))),
        over_time=tuple(map(quality, spans)),
        fits=run.fits,
        seconds=round(time.process_time() - started, 3),
        live_from=None if run.live_from is None else max(run.live_from - origin, 0),
        retrained=tuple(at - origin for at in run.retrained if at >= origin),
        refused=tuple(at - origin for at in run.refused if at >= origin),
        updated=tuple(at - origin for at in run.updated if at >= origin),
        alarms=tuple(
            AlarmAt(at=look.at - origin, signals=look.signals.breached)
            for look in run.looks
            if look.at >= origin and look.signals.breached
        ),
    )


def _start(history: History, case: Case) -> int:
    """Find the first row to score. With shifted blocks it lies before the first row that is measured."""
    step = history.contract.evaluation.refit_every
    shift = case.alignment % step
    return history.origin + shift - (step if shift else 0)


def _refuse(history: History, cases: Sequence[Case]) -> None:
    contract = history.contract
    if contract.time is None:
        raise DataError(f"contract {contract.name}: expected rows in time order, but it declares no 'time'")
    minimum = contract.evaluation.refit_every
    for case in cases:
        if (labelled := Clock(history, case.delay).known(_start(history, case))) < minimum:
            raise DataError(
                f"contract {contract.name}: expected {minimum} rows with known labels when the replay begins, "
                f"got {labelled}: bring more rows, or shorten the label delay of {case.delay.span}"
            )


def _replayed(history: History, cases: Sequence[Case], results_directory: Path, workers: int) -> Iterator[str]:
    """Replay cases side by side; each leaves its result in a file. Yields each case's name once it is finished."""
    if workers < 2 or len(cases) < 2:
        for case in cases:
            yield _keep(history, case, results_directory)
        return
    # Made once, by threads on all cores, where each worker would make them for itself at the same time.
    candidate.prepare(history, {case.policy.learns for case in cases if isinstance(case.policy, Schedule)})
    # Workers are spawned, because a forked child inherits locks that threads of this process may hold.
    with ProcessPoolExecutor(workers, get_context("spawn"), _prepare, (history, results_directory)) as pool:
        futures: list[Future[str]] = [pool.submit(_in_worker, case) for case in cases]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


_worker: dict[str, tuple[History, Path]] = {}


def _prepare(history: History, results_directory: Path) -> None:
    # One thread each: the processes already fill the cores, so more threads would only wait for each other.
    threadpool_limits(1)
    _worker["here"] = history, results_directory


def _in_worker(case: Case) -> str:
    history, results_directory = _worker["here"]
    return _keep(history, case, results_directory)


def _keep(history: History, case: Case, results_directory: Path) -> str:
    path = _file(results_directory, case)
    partial = path.with_suffix(".partial")
    partial.write_text(measure(history, case).model_dump_json() + "\n", "utf-8")
    partial.rename(path)
    return case.name


def _file(results_directory: Path, case: Case) -> Path:
    return results_directory / f"{case.name}.json"
