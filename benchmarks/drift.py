"""The drift part of `make bench`: alarms without drift, alarms with it, and the time that one window takes."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from offers.bundle.writing import REFERENCE_ROWS
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.contract.sections import Watching
from offers.drift.examination import Reference, Streak, Watch, examine, watched_columns
from offers.simulation.shifts import CovariateShift, Regime, ShareShift
from offers.simulation.world import World

POOL = 80_000
WITHIN = 3
"""Windows in which drift has to become an alarm."""

SHIFTS = (
    ("bank-marketing", CovariateShift(0, "age", 0.5)),
    ("bank-marketing", CovariateShift(0, "campaign", 0.5)),
    ("personal-loan", CovariateShift(0, "Income", 0.5)),
    ("bank-marketing", ShareShift(0, "job", "student", 2)),
    ("bank-marketing", ShareShift(0, "job", "housemaid", 2)),
    ("bank-marketing", ShareShift(0, "education", "unknown", 2)),
    ("bank-marketing", ShareShift(0, "education", "basic.6y", 2)),
)

Rows = tuple[pd.DataFrame, np.ndarray]

WINDOW = Watching().window
"""Rows of a window where the contract says nothing."""


@dataclass(frozen=True)
class Stillness:
    """A simulated world whose periods are alike, so that only what is told to drift does.

    Its true propensities stand for a model's. Thresholds are the shipped defaults.
    """

    name: str
    window: int = WINDOW
    reference_rows: int = REFERENCE_ROWS

    @cached_property
    def contract(self) -> Contract:
        shipped = contracts.load(self.name)
        return shipped.model_copy(update={"simulation": shipped.simulation.model_copy(update={"periods": 1})})

    @cached_property
    def pool(self) -> Rows:
        return self.rows()

    def rows(self, seed: int = 0, *regimes: Regime) -> Rows:
        sample = World(self.contract).sample(POOL, seed=seed, regimes=regimes)
        return sample.frame[[column.name for column in self.contract.inputs]], sample.propensity

    def reference(self, rng: np.random.Generator) -> tuple[Reference, Rows]:
        """Draw a reference from the pool; return it with the rows that are left."""
        frame, propensity = self.pool
        order = rng.permutation(len(frame))
        sample, rest = order[: self.reference_rows], order[self.reference_rows :]
        columns, watch = watched_columns(self.contract), replace(Watch.of(self.contract), window=self.window)
        reference = Reference(columns, watch, frame.iloc[sample].reset_index(drop=True), propensity[sample])
        return reference, (frame.iloc[rest], propensity[rest])

    def streaks(self, reference: Reference, rows: Rows, rng: np.random.Generator) -> Iterator[Streak]:
        """Without end, the streak after each further window that is drawn from the rows."""
        (frame, propensity), streak = rows, Streak(reference.watch)
        while True:
            sample = rng.choice(len(frame), self.window, replace=False)
            streak = streak.after(examine(reference, frame.iloc[sample], propensity[sample]))
            yield streak


def false_alarms(world: Stillness, references: int, windows: int, seed: int = 0) -> int:
    """Count the windows without drift after which there is an alarm; `windows` are drawn for each reference."""
    rng, alarms = np.random.default_rng(seed), 0
    for _ in range(references):
        reference, rows = world.reference(rng)
        alarms += sum(streak.alarm for streak in islice(world.streaks(reference, rows, rng), windows))
    return alarms


def power(world: Stillness, shift: Regime, references: int, runs: int, seed: int = 0) -> float:
    """Share of the runs in which the data's drift is an alarm within `WITHIN` windows; `runs` for each reference."""
    rng, shifted, alarms = np.random.default_rng(seed), world.rows(1, shift), 0
    for _ in range(references):
        reference, _ = world.reference(rng)
        for _ in range(runs):
            streaks = islice(world.streaks(reference, shifted, rng), WITHIN)
            alarms += any(streak.signals["data"] for streak in streaks)
    return alarms / (references * runs)


def rows() -> Iterator[tuple[str, str, str]]:
    """What was measured, its figure, and what is to be reached."""
    for name, window, reference_rows in (
        ("bank-marketing", WINDOW, REFERENCE_ROWS),
        ("bank-marketing", 200, REFERENCE_ROWS),
        ("bank-marketing", 200, 500),
        ("personal-loan", WINDOW, 5000),
    ):
        alarms = false_alarms(Stillness(name, window, reference_rows), references=20, windows=100)
        yield f"{name}, {window} against {reference_rows} rows: alarms in 2000 windows", str(alarms), "<= 2"
    for window in (200, 500):
        share = power(Stillness("bank-marketing", window), SHIFTS[0][1], references=10, runs=20)
        yield f"bank-marketing, age, 0.5 sigma, windows of {window}", f"{share:.0%}", ""
    for name, shift in SHIFTS:
        moved = f"{shift.value} x {shift.factor}" if isinstance(shift, ShareShift) else f"{shift.sigmas} sigma"
        share = power(Stillness(name), shift, references=20, runs=20)
        yield f"{name}, {shift.column}, {moved}: alarm within {WITHIN} windows", f"{share:.0%}", ">= 95%"
    yield f"{WINDOW} rows against 10000: one window", f"{_milliseconds():.0f} ms CPU", "< 30 ms"


def main(material: object = None) -> None:
    """Print the table; it needs no material but the simulated world."""
    table = Table(title="Drift, at the shipped settings, in the simulated world")
    for heading in ("what", "measured", "to reach"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for row in rows():
        table.add_row(*row)
    Console(highlight=False, width=110).print(table)


def _milliseconds(runs: int = 50) -> float:
    world = Stillness("bank-marketing", reference_rows=10_000)
    reference, (frame, propensity) = world.reference(np.random.default_rng(0))
    window = frame.iloc[: world.window], propensity[: world.window]
    examine(reference, *window)
    return statistics.median(_seconds(reference, window) for _ in range(runs)) * 1000


def _seconds(reference: Reference, window: Rows) -> float:
    """Of this process, since other processes are no part of the question."""
    started = time.process_time()
    examine(reference, *window)
    return time.process_time() - started


if __name__ == "__main__":
    main()
