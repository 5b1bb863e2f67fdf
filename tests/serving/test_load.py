"""The load of `make bench`, against a service whose delays are known."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks.load import Load, answer, closed_loop, constant_rate, counted, post
from tests.support.services import DEADLINE

DELAY = 0.05


@dataclass
class Service:
    """Answers each request with its body, `DELAY` seconds late where that says so, or not as it should."""

    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        async with await asyncio.start_server(self._connection, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await stop.wait()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(int(head.rpartition(b":")[2]))
                self.asked.append(body)
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                await asyncio.sleep(DELAY if body == b"late" else 0)
                self.under_way -= 1
                if body == b"break":
                    break
                await self._answer(writer, body)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        status = b"503 Service Unavailable" if body == b"refuse" else b"200 OK"
        whole = b"HTTP/1.1 %s\r\nserver: test\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
        for piece in (whole[:20], whole[20:-3], whole[-3:]):
            writer.write(piece)
            await writer.drain()


@pytest.fixture
def service() -> Iterator[Service]:
    found, started, stop = Service(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(found.serve(started, stop),))
    thread.start()
    assert started.wait(DEADLINE)
    yield found
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def requests(*bodies: str) -> list[bytes]:
    return [post("/", body.encode()) for body in bodies]


def test_percentiles_are_those_of_all_spells() -> None:
    spells = [Load(np.arange(1, 51) / 1000, 2.0, 1), Load(np.arange(51, 102) / 1000, 3.0, 2)]
    load = Load.of(spells)
    assert (load.ms(50), load.ms(99)) == pytest.approx((51, 100))
    assert (load.rate, load.errors) == (101 / 5, 3)


def test_answers_are_whole_though_they_come_in_pieces(service: Service) -> None:
    assert answer(service.port, post("/", b"one\r\n\r\ntwo")) == b"one\r\n\r\ntwo"


def test_late_answers_stand_in_the_upper_percentiles(service: Service) -> None:
    load = counted(service.port, requests("late", *["prompt"] * 9), 2, 40)
    assert len(load.latencies) == len(service.asked) == 40
    assert np.sort(load.latencies)[-4:].min() >= DELAY * 0.99
    assert load.ms(95) >= DELAY * 990
    assert load.errors == 0


def test_a_closed_loop_keeps_as_many_under_way_as_it_is_told(service: Service) -> None:
    load = closed_loop(service.port, requests("late"), 3, 3 * DELAY)
    assert service.most == 3
    assert len(load.latencies) == len(service.asked) >= 3
    assert load.seconds >= 3 * DELAY


def test_a_constant_rate_counts_from_when_a_request_was_due(service: Service) -> None:
    rate, count = 100, 8
    load = constant_rate(service.port, requests("late"), rate, count / rate, connections=1)
    queued = np.arange(1, count + 1) * DELAY - np.arange(count) / rate
    assert (load.latencies >= queued * 0.99).all()
    assert service.most == 1


def test_a_constant_rate_sends_though_answers_are_late(service: Service) -> None:
    load = constant_rate(service.port, requests("late"), 200, 8 / 200, connections=8)
    assert len(load.latencies) == 8
    assert service.most > 1


def test_errors_are_counted_and_the_load_goes_on(service: Service) -> None:
    load = counted(service.port, requests("fine", "refuse", "break", "fine"), 1, 8)
    assert load.errors == 4
    assert service.asked == [b"fine", b"refuse", b"break", b"fine"] * 2


def test_one_answer_that_is_refused_says_so(service: Service) -> None:
    with pytest.raises(ConnectionError, match="503: refuse"):
        answer(service.port, post("/", b"refuse"))
