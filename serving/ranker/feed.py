"""What the ranker tells others in the background: rows as it has scored them, from a queue that never holds it up."""

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

import httpx
import numpy as np
import orjson

from offers.errors import OffersError
from offers.http_client import Peer, peer
from serving.process.logs import log
from serving.process.telemetry import FEED_DROPPED, FEED_FAILURES, FEED_QUEUE, FEED_SENT
from serving.protocol.rows import MAX_ROWS

EVENT_TYPE, EVENT_SOURCE = "offers.scored", "/offers/ranker"
"""Type of the events, and the source that each process adds a name of its own to: it counts dropped rows from 0."""
_HEADERS = {"content-type": "application/cloudevents+json; charset=utf-8"}


@dataclass(frozen=True)
class ScoredRows:
    """The pairs that were ranked first, one for each customer, and what the bundle made of them.

    Attributes
    ----------
    columns : each input column of the contract, shape (n_rows,); words as object with None where missing, other
        types as float64 with NaN
    propensity : ndarray, shape (n_rows,), in [0, 1]
    selection : rows of the bundle's reference that the catalogue's rules let pass; see `offers.drift.selection`
    """

    bundle: str
    columns: dict[str, np.ndarray]
    propensity: np.ndarray
    selection: str = ""

    def __len__(self) -> int:
        return len(self.propensity)

    def pieces(self, size: int) -> Iterator[Self]:
        """The same rows in pieces of at most `size`."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield replace(
                self,
                columns={name: values[part] for name, values in self.columns.items()},
                propensity=self.propensity[part],
            )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Rows of one bundle in one piece."""
        return cls(
            parts[0].bundle,
            {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
            np.concatenate([part.propensity for part in parts]),
            parts[0].selection,
        )


Send = Callable[[ScoredRows, int], Awaitable[None]]
"""Hands on a batch; told how many rows the feed has dropped so far. Raises where the batch was not taken."""


class Feed:
    """A bounded queue of scored rows, and the task that empties it into a sink, batch by batch.

    Nobody waits for it: rows that find the queue full are dropped and counted, and so is a batch that the sink does
    not take, for a second delivery might tell of a customer twice. What still waits when the feed is left is sent
    within `grace` seconds. A batch holds rows of one bundle.

    Parameters
    ----------
    name : what metrics and logs call it
    sink : from `events`; open while the feed runs
    batch : the most rows that are sent at once; so many are sent as soon as they are there
    seconds : how long a row waits at most until it is sent, while the sink keeps up
    limit : the most rows that wait
    grace : seconds for what still waits at the end
    """

    def __init__(
        self,
        name: str,
        sink: AbstractAsyncContextManager[Send],
        batch: int,
        seconds: float,
        limit: int = MAX_ROWS,
        grace: float = 3.0,
    ) -> None:
        self.name, self.batch, self.seconds, self.limit, self.grace = name, batch, seconds, limit, grace
        self.dropped = 0
        self._sink = sink
        self._waiting: deque[ScoredRows] = deque()
        self._n_rows = 0
        self._closing = False
        self._some, self._full = asyncio.Event(), asyncio.Event()
        self._queue, self._failures = FEED_QUEUE.labels(name), FEED_FAILURES.labels(name)
        self._sent, self._given_up = FEED_SENT.labels(name), FEED_DROPPED.labels(name)

    def offer(self, rows: ScoredRows) -> None:
        """Queue rows, or drop them all where there is no room; to be called on the event loop."""
        if self._n_rows + len(rows) > self.limit:
            self._drop(len(rows))
        elif len(rows):
            self._waiting.extend(rows.pieces(self.batch) if len(rows) > self.batch else (rows,))
            self._count(len(rows))

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._count(0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._task, self.grace)
        rest = self._n_rows
        self._waiting.clear()
        self._count(-rest)
        self._drop(rest)
        if self.dropped:
            log.warning("rows dropped", extra={"fields": {"feed": self.name, "rows": self.dropped}})

    async def _run(self) -> None:
        async with self._sink as send:
            while self._waiting or not self._closing:
                await self._until_due()
                if self._waiting:
                    await self._deliver(send, self._taken())

    async def _until_due(self) -> None:
        await self._some.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._full.wait(), self.seconds)

    def _taken(self) -> ScoredRows:
        parts, room, bundle = list[ScoredRows](), self.batch, self._waiting[0].bundle
        while self._waiting and self._waiting[0].bundle == bundle and len(self._waiting[0]) <= room:
            parts.append(self._waiting.popleft())
            room -= len(parts[-1])
        self._count(room - self.batch)
        return ScoredRows.joined(parts)

    async def _deliver(self, send: Send, rows: ScoredRows) -> None:
        success = False
        try:
            await send(rows, self.dropped)
            success = True
        except Exception as error:
            # Whatever befell this batch, the next one has a chance of its own.
            self._failures.inc()
            expected = isinstance(error, httpx.HTTPStatusError | OffersError)
            reason = str(error).splitlines()[0] if expected else type(error).__name__
            log.warning("feed failed", extra={"fields": {"feed": self.name, "rows": len(rows), "reason": reason}})
        finally:
            if success:
                self._sent.inc(len(rows))
            else:
                self._drop(len(rows))

    def _count(self, more: int) -> None:
        self._n_rows += more
        self._queue.set(self._n_rows)
        for event, holds in ((self._some, self._n_rows), (self._full, self._n_rows >= self.batch)):
            if holds or self._closing:
                event.set()
            else:
                event.clear()

    def _drop(self, n_rows: int) -> None:
        self.dropped += n_rows
        self._given_up.inc(n_rows)


def events(url: str, timeout: float = 5.0) -> AbstractAsyncContextManager[Send]:
    """A sink that posts each batch as a CloudEvent, in structured mode, and waits `timeout` seconds for an answer.

    Raises
    ------
    ServiceError
        `url` is not an address of HTTP, or holds a password, which logs would tell
    """
    return _events(peer("drift_url", url, timeout))


@asynccontextmanager
async def _events(sidecar: Peer) -> AsyncIterator[Send]:
    source = f"{EVENT_SOURCE}/{uuid.uuid4().hex[:12]}"
    async with sidecar.client() as client:

        async def send(rows: ScoredRows, dropped: int) -> None:
            answer = await sidecar.post(client, _event(rows, dropped, source), _HEADERS)
            answer.raise_for_status()

        yield send


def _event(rows: ScoredRows, dropped: int, source: str) -> bytes:
    data = {
        "bundle": rows.bundle,
        "columns": {name: _plain(values) for name, values in rows.columns.items()},
        "propensity": rows.propensity,
        "dropped": dropped,
        "selection": rows.selection,
    }
    event = {
        "specversion": "1.0",
        "type": EVENT_TYPE,
        "source": source,
        "id": uuid.uuid4().hex,
        "time": datetime.now(UTC),
        "subject": rows.bundle,
        "datacontenttype": "application/json",
        "data": data,
    }
    return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(values: np.ndarray) -> Any:
    """As orjson takes it: it writes an array of numbers, with null for NaN, and a list of words."""
    return values.tolist() if values.dtype == object else np.ascontiguousarray(values)
