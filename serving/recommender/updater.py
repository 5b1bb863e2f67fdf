"""The updater: lets events move the online features of their users, a moment after they arrived.

It reads nothing but the spool when it starts: events that a process took before it was killed move their users then.
So do the events that are still kept after each load, which may have been made before they came.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import orjson

from offers.data.online import OnlineUsers, UserEvent
from offers.decisions.segment import SEALED, lines, sealed
from offers.errors import OffersError
from offers.files import os_errors
from offers.store.online import OnlineStore
from serving.process.logs import log_event, log_fault
from serving.recommender.metrics import EVENTS, LAG, PLACE_EVENTS, PRODUCT_EVENTS, WAITING

_LOOK_SECONDS = 0.5
_MOST_PLACES = 20
_BATCH = 1000

Item = Mapping[str, Any]


class Updater:
    """Moves features in a thread of its own; a context.

    Parameters
    ----------
    users : of the market
    opened : opens the online store
    spool : the directory of the events
    keep : seconds that events are kept
    """

    def __init__(self, users: OnlineUsers, opened: Callable[[], OnlineStore], spool: Path, keep: float) -> None:
        self._users, self._opened, self._spool, self._keep = users, opened, spool, keep
        self._queue: queue.SimpleQueue[tuple[float, list[Item]] | None] = queue.SimpleQueue()
        self._store: OnlineStore | None = None
        self._generation = 0
        self._away = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="updater", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Move what has arrived, as far as the store answers."""
        self._stop.set()
        self._queue.put(None)
        self._thread.join()

    def offer(self, items: Sequence[Item]) -> None:
        """Take events that are in the spool; from any thread."""
        if usable := [item for item in items if not item["left_out"]]:
            WAITING.inc(len(usable))
            self._queue.put((time.monotonic(), usable))

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._follow_loads()
                self._clean()
                self._move(self._arrived(_LOOK_SECONDS))
            self._move(self._arrived(0))
            if self._store:
                self._store.close()
        except BaseException as error:
            log_fault(error)
            raise

    def _arrived(self, seconds: float) -> list[tuple[float, list[Item]]]:
        """Wait for events, and take with them what else is there."""
        batches = list[tuple[float, list[Item]]]()
        try:
            entry = self._queue.get(timeout=seconds) if seconds else self._queue.get_nowait()
            while True:
                batches += [entry] if entry else []
                if sum(len(items) for _, items in batches) >= _BATCH:
                    break
                entry = self._queue.get_nowait()
        except queue.Empty:
            pass
        return batches

    def _move(self, batches: Sequence[tuple[float, list[Item]]]) -> None:
        items = [item for _, entry in batches for item in entry]
        # Whatever happens to the store, events stay in the spool, so that the end need not wait.
        while items and not self._tried(lambda: self._apply(items)):
            if self._stop.wait(_LOOK_SECONDS):
                return
        now = time.monotonic()
        for arrival, entry in batches:
            WAITING.dec(len(entry))
            LAG.observe(now - arrival)

    def _apply(self, items: Sequence[Item]) -> None:
        for item, treatment in zip(items, self._users.apply(self._online(), _events(items)), strict=True):
            EVENTS.labels(treatment).inc()
            if treatment == "taken":
                PRODUCT_EVENTS.labels(item["event"], item["product_id"]).inc()
                if item["position"] is not None:
                    place = str(item["position"]) if item["position"] <= _MOST_PLACES else "beyond"
                    PLACE_EVENTS.labels(item["event"], place).inc()

    def _follow_loads(self) -> None:
        """Move users by all events of the spool again, where a load has replaced their rows, or none has been seen."""
        self._tried(self._again)

    def _again(self) -> None:
        store = self._online()
        generation = store.generation()
        if generation == self._generation:
            return
        moved = 0
        for items in _in_spool(self._spool):
            moved += self._users.apply(store, _events(items)).count("taken")
        self._generation = generation
        log_event("events of the spool move the users of a load", moved=moved)

    def _online(self) -> OnlineStore:
        if self._store is None:
            self._store = self._opened()
        return self._store

    def _tried(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except OffersError as error:
            if str(error) != self._away:
                log_event("features wait for the online store", reason=str(error))
            self._away = str(error)
            return False
        self._away = ""
        return True

    def _clean(self) -> None:
        """Remove segments that are old; while the store is away nothing is."""
        if self._away:
            return
        with os_errors(self._spool):
            for path in self._spool.glob(f"*{SEALED}"):
                if time.time() - path.stat().st_mtime > self._keep:
                    path.unlink()


def _in_spool(directory: Path) -> Iterator[list[Item]]:
    """Read the usable events of each line of a spool; the open segment is that of this process, and whole in lines."""
    paths = [segment.path for segment in sealed(directory)] + sorted(directory.glob("*.open"))
    for path in paths:
        with os_errors(path):
            content = path.read_bytes()
        for line in lines(content):
            if isinstance(line, bytes):
                items = orjson.loads(line)["data"]["interactions"]
                yield [item for item in items if not item["left_out"]]


def _events(items: Sequence[Item]) -> list[UserEvent]:
    return [
        UserEvent(item["event_id"], item["user_id"], item["event"], item["at"], item["product_id"]) for item in items
    ]
