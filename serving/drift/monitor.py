"""The watch itself: batches fill windows, windows are judged, judgements raise alarms, and all of it is kept."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from offers.drift.examination import Streak, WindowReport
from offers.errors import StorageError
from serving.drift.alarms import Alarm, Sink
from serving.drift.events import Batch, BatchSchema
from serving.drift.ledger import KEPT_WINDOWS, WatchRecord
from serving.drift.rows import Rows
from serving.drift.state import StateFile
from serving.process.logs import log_event, log_fault

if TYPE_CHECKING:
    from serving.drift.judge import Judge, WindowJudgement

SAVE_EVERY = 1.0
"""Seconds; what a crash may lose at most is what arrived in these."""
REMIND_AFTER = 20
"""Windows after which an alarm that still holds is raised again."""


class Busy(Exception):  # noqa: N818
    """There is no room for more rows until a window has been judged."""


class Monitor:
    """Watches one bundle. Everything but the judging and the writing happens on the event loop."""

    def __init__(self, judge: "Judge", rows: Rows, ledger: WatchRecord, state: StateFile, sink: Sink | None) -> None:
        self.judge, self.rows, self.ledger, self.state, self.sink = judge, rows, ledger, state, sink
        self.watch = judge.reference.watch
        self.schema = BatchSchema(
            ledger.bundle, judge.reference.columns, rows.limit - self.watch.window, len(judge.watched.reference)
        )
        self.streak = Streak.from_dict(self.watch, ledger.streak)
        self.draining = False
        self.save_failures = 0
        self._arrived, self._raised = asyncio.Event(), asyncio.Event()
        # One thread, so that a save can't overtake another.
        self._writer = ThreadPoolExecutor(1)
        self._changes, self._saved = 0, 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def bundle(self) -> str:
        return self.ledger.bundle

    @property
    def alive(self) -> bool:
        """Whether rows are still judged, saved and alarms delivered."""
        return not any(task.done() for task in self._tasks)

    @property
    def saved(self) -> bool:
        """Whether a crash now would lose nothing."""
        return self._saved == self._changes

    def take(self, batch: Batch) -> str:
        """Take a batch in, once; say "accepted" or "duplicate".

        Raises
        ------
        Busy
            there is no room; the rows are counted as dropped
        """
        self._changes += 1
        if batch.key in self.ledger.seen:
            self.ledger.count("duplicate")
            return "duplicate"
        if len(batch.rows) > self.rows.room:
            self.ledger.count("busy")
            self.ledger.dropped["sidecar"] += len(batch.rows)
            raise Busy(f"expected at most {self.rows.room} rows while a window is judged, got {len(batch.rows)}")
        self.rows.add(batch.rows)
        self.ledger.count("accepted")
        self.ledger.sender_dropped(batch.source, batch.dropped)
        self.ledger.remember(batch.key)
        self.ledger.selection = batch.selection
        self.ledger.last_event = time.time()
        self._arrived.set()
        return "accepted"

    def report(self) -> dict[str, Any]:
        """Everything that is known, as JSON can hold it."""
        ledger = self.ledger
        return {
            "bundle": self.bundle,
            "since": ledger.since,
            "watch": asdict(self.watch),
            "window": {"rows": len(self.rows), "of": self.watch.window, "last_event": ledger.last_event},
            "saved": self.saved,
            "reference": {"rows": len(self.judge.reference), "of": len(self.judge.watched.reference)},
            "windows": ledger.windows,
            "rows": ledger.rows,
            "last_window": ledger.last_window,
            "signals": self.streak.signals,
            "reasons": list(self.streak.reasons),
            "streak": {name: run.windows for name, run in self.streak.runs.items()},
            "events": ledger.events,
            "dropped": ledger.dropped,
            "faults": ledger.faults,
            "alarms": [alarm.to_dict() for alarm in reversed(ledger.alarms)],
            "sink": {"url": self.sink.url if self.sink else None, "failures": ledger.sink_failures},
            "history": ledger.history,
            "latest": ledger.latest,
        }

    def refused(self) -> None:
        """Count an event that was not one of scored rows of this bundle."""
        self.ledger.count("refused")
        self._changes += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Judge, save and deliver in the background; save once more at the end."""
        self._arrived.set()
        self._raised.set()
        work: list[Coroutine[Any, Any, None]] = [self._judge_windows(), self._save_often()]
        if self.sink:
            work.append(self._deliver(self.sink))
        self._tasks = [asyncio.create_task(coroutine) for coroutine in work]
        for task in self._tasks:
            task.add_done_callback(_ended)
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self.sink:
                await self.sink.close()
            await self._save()

    async def _judge_windows(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while len(self.rows) >= self.watch.window:
                await self._judge_window()

    async def _judge_window(self) -> None:
        """Judge the oldest window. Its rows stay in the state until its report is there too."""
        rows = self.rows.first(self.watch.window)
        try:
            self._record(await asyncio.to_thread(self.judge, rows, self.ledger.selection))
        except Exception as error:
            log_fault(error)
            self.ledger.faults += 1
        self.rows.drop(self.watch.window)
        self._changes += 1
        await self._save()
        self._raised.set()

    def _record(self, judgement: "WindowJudgement") -> None:
        ledger, report = self.ledger, judgement.report
        self.streak = self.streak.after(report)
        ledger.windows += 1
        ledger.rows += report.rows
        ledger.last_window = time.time()
        ledger.streak = self.streak.to_dict()
        ledger.latest = judgement.to_dict()
        ledger.history = [*ledger.history[-KEPT_WINDOWS + 1 :], self._line(report)]
        log_event("window", window=ledger.windows, signals=self.streak.signals, reasons=report.reasons)
        earlier, ledger.told = ledger.told, sorted({*ledger.told, *self.streak.alarms}) if self.streak.alarm else []
        if len(ledger.told) > len(earlier) or (earlier and self._is_overdue()):
            self._raise_alarm(report)

    def _line(self, report: WindowReport) -> dict[str, Any]:
        """What is kept of every window."""
        return {
            "window": self.ledger.windows,
            "time": self.ledger.last_window,
            "breached": [column.name for column in report.of_list("watched") if column.breached],
            "distances": {column.name: column.distance for column in report.columns},
            "score_ks": report.score.ks,
            "rate": report.score.rate.rate,
            "attribution": report.attribution,
            "signals": self.streak.signals,
        }

    def _is_overdue(self) -> bool:
        return self.streak.alarm and self.ledger.windows - self.ledger.last_alarm >= REMIND_AFTER

    def _raise_alarm(self, report: WindowReport) -> None:
        windows = max(run.windows for run in self.streak.runs.values())
        alarm = Alarm(self.bundle, self.streak.signals, list(self.streak.reasons), windows, report.to_dict())
        self.ledger.add_alarm(alarm)
        log_event("alarm", logging.WARNING, id=alarm.id, signals=alarm.signals, reasons=alarm.reasons)

    async def _deliver(self, sink: Sink) -> None:
        while True:
            await self._raised.wait()
            self._raised.clear()
            await sink.deliver(self._waiting, self._tried)

    def _waiting(self) -> list[Alarm]:
        return [alarm for alarm in self.ledger.alarms if alarm.delivered is None]

    async def _tried(self, alarm: Alarm) -> None:
        self.ledger.sink_failures += bool(alarm.failure)
        self._changes += 1
        await self._save()

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            if not self.saved:
                await self._save()

    async def _save(self) -> None:
        changes = self._changes
        try:
            save = partial(self.state.save, self.rows.all(), self.ledger.to_json())
            await asyncio.get_running_loop().run_in_executor(self._writer, save)
            self._saved = changes
        except StorageError as error:
            self.save_failures += 1
            log_event("state not saved", logging.ERROR, reason=str(error))
        except Exception as error:
            # Whatever befell this state, the next one has a chance of its own; the watch goes on.
            self.save_failures += 1
            log_fault(error)


def _ended(task: asyncio.Task[None]) -> None:
    """Log why a task that should last has ended; health tells that it has."""
    if not task.cancelled() and (error := task.exception()):
        log_fault(error)
