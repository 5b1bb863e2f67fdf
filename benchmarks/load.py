"""Load on an HTTP service of loopback from a client that costs little: ready-made bytes, kept-alive connections."""

import asyncio
import gc
import selectors
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Self, TypeVar

import numpy as np

_END_OF_HEAD, _LENGTH = b"\r\n\r\n", b"\r\ncontent-length:"

T = TypeVar("T")


@dataclass(frozen=True)
class Load:
    """What a load has met.

    Attributes
    ----------
    latencies : ndarray, shape (n_requests,)
        seconds until the answer was whole: since the request was sent, or since it was due where the rate is constant
    seconds : from the first request to the last answer
    errors : answers of another status than 200, and connections that broke
    """

    latencies: np.ndarray
    seconds: float
    errors: int

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def ms(self, percent: float) -> float:
        """Milliseconds within which so many percent of the requests were answered."""
        return float(np.percentile(self.latencies, percent) * 1e3)

    @classmethod
    def of(cls, spells: Sequence[Self]) -> Self:
        """Several spells as one."""
        latencies = np.concatenate([spell.latencies for spell in spells])
        return cls(latencies, sum(spell.seconds for spell in spells), sum(spell.errors for spell in spells))


def post(path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + _END_OF_HEAD + body


def get(path: str) -> bytes:
    """A request without a body, as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1".encode() + _END_OF_HEAD


def answer(port: int, request: bytes) -> bytes:
    """The body of one answer; raises ConnectionError where its status is not 200."""

    async def ask() -> bytes:
        async with _connected(port, 1) as connections:
            return await connections[0].ask(request)

    return _run(ask())


def closed_loop(port: int, requests: Sequence[bytes], concurrency: int, seconds: float) -> Load:
    """Keep `concurrency` requests under way for so long: who has its answer sends the next one."""

    def until_time_is_up() -> Iterator[bytes]:
        end = time.perf_counter() + seconds
        for request in cycle(requests):
            if time.perf_counter() >= end:
                return
            yield request

    return _run(_closed_loop(port, until_time_is_up(), concurrency))


def counted(port: int, requests: Sequence[bytes], concurrency: int, count: int) -> Load:
    """Send `count` requests, `concurrency` at a time."""
    return _run(_closed_loop(port, islice(cycle(requests), count), concurrency))


def constant_rate(port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int = 64) -> Load:
    """Send `rate` requests a second, however long the answers take.

    A request that finds no connection free waits for one, and its latency counts from when it was due: a service that
    stalls can't slow down its own measurement.
    """
    return _run(_constant_rate(port, islice(cycle(requests), round(rate * seconds)), rate, connections))


async def _closed_loop(port: int, requests: Iterator[bytes], concurrency: int) -> Load:
    record = _Record()
    async with _connected(port, concurrency) as connections:

        async def work(connection: _Connection) -> None:
            for request in requests:
                await record.ask(connection, request, time.perf_counter())

        return await record.of(map(work, connections))


async def _constant_rate(port: int, requests: Iterator[bytes], rate: float, n_connections: int) -> Load:
    record, waiting = _Record(), asyncio.Queue[tuple[bytes, float] | None]()
    async with _connected(port, n_connections) as connections:

        async def work(connection: _Connection) -> None:
            while (due := await waiting.get()) is not None:
                await record.ask(connection, *due)

        async def send() -> None:
            start = time.perf_counter()
            for number, request in enumerate(requests):
                due = start + number / rate
                await asyncio.sleep(due - time.perf_counter())
                waiting.put_nowait((request, due))
            for _ in connections:
                waiting.put_nowait(None)

        return await record.of([*map(work, connections), send()])


class _Record:
    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.errors = 0

    async def ask(self, connection: "_Connection", request: bytes, since: float) -> None:
        try:
            await connection.ask(request)
        except OSError:
            self.errors += 1
        self.latencies.append(time.perf_counter() - since)

    async def of(self, work: Iterator[Coroutine[Any, Any, None]] | list[Coroutine[Any, Any, None]]) -> Load:
        start = time.perf_counter()
        await asyncio.gather(*work)
        return Load(np.array(self.latencies), time.perf_counter() - start, self.errors)


class _Connection(asyncio.Protocol):
    """A connection that carries one request at a time, and opens again where the service has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._received = bytearray()
        self._open = False
        self._answer: asyncio.Future[bytes] | None = None

    async def open(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)

    async def ask(self, request: bytes) -> bytes:
        if not self._open:
            await self.open()
        self._received.clear()
        self._answer = asyncio.Future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._open:
            self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport, self._open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the service closed the connection in mid-answer"))

    def data_received(self, data: bytes) -> None:
        assert self._answer is not None, f"nothing was asked, but this came: {data[:200]!r}"
        self._received += data
        end = self._received.find(_END_OF_HEAD)
        if end < 0:
            return
        head, start = self._received[:end].lower(), end + len(_END_OF_HEAD)
        length = int(head.partition(_LENGTH)[2].partition(b"\r")[0])
        if len(self._received) < start + length:
            return
        body = bytes(self._received[start:])
        if head[9:12] == b"200":
            self._answer.set_result(body)
        else:
            self._answer.set_exception(ConnectionError(f"status {head[9:12].decode()}: {body[:200].decode()}"))


@asynccontextmanager
async def _connected(port: int, count: int) -> AsyncIterator[list[_Connection]]:
    connections = [_Connection(port) for _ in range(count)]
    try:
        for connection in connections:
            await connection.open()
        yield connections
    finally:
        for connection in connections:
            connection.close()


def _run(load: Coroutine[Any, Any, T]) -> T:
    # Of the loops at hand only this one wakes to less than a millisecond, and it costs no more than uvloop.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        gc.disable()
        try:
            return runner.run(load)
        finally:
            gc.enable()
