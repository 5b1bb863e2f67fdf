"""Connections of the HTTP edge, spoken to byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.process.connection import Limits
from serving.process.edge import Bodies, application
from serving.process.listening import LIMITS, HttpServer, bound

BODY = b"GET /answer HTTP/1.1\r\nHost: inner\r\n\r\n"
HEAD = b"POST /echo HTTP/1.1\r\nHost: outer\r\nContent-Length: %d\r\n"
SECONDS = 20.0


class Service:
    """An echo behind the edge, on a free port."""

    def __init__(self, limits: Limits = LIMITS, linger: float = 0.3, body_seconds: float = 10) -> None:
        self.bodies, self.go_on = Bodies(10_000, body_seconds), asyncio.Event()
        self.seen, self.peers = list[str](), list[Peer]()
        routes = {("POST", "/echo"): self.echo, ("GET", "/answer"): self.answer, ("GET", "/slow"): self.slow}
        self.server = HttpServer(application(routes), limits, linger, grace=10)
        listener = bound("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.server.start(listener)

    async def echo(self, request: Request) -> Response:
        self.seen.append("/echo")
        return Response(await self.bodies.read(request))

    async def answer(self, request: Request) -> Response:
        self.seen.append("/answer")
        return JSONResponse("here")

    async def slow(self, request: Request) -> Response:
        self.seen.append("/slow")
        await self.go_on.wait()
        return JSONResponse("at last")

    async def open(self) -> "Peer":
        self.peers.append(Peer(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.peers[-1]

    async def stop(self) -> None:
        self.go_on.set()
        for peer in self.peers:
            peer.writer.close()
        await self.server.stop()


class Peer:
    """A caller who writes bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer, which names the length of its body."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), SECONDS)).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), SECONDS)
        return int(head[0].split()[1]), headers, body

    async def closed(self) -> bytes:
        """Read what comes until the service closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), SECONDS)
        except ConnectionResetError:
            return b""

    async def ask(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        await self.send(content)
        return await self.answer()


def served(scenario: Callable[[Service], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with _running(settings) as service:
            await scenario(service)

    asyncio.run(run())


@asynccontextmanager
async def _running(settings: dict[str, Any]) -> AsyncIterator[Service]:
    service = Service(**settings)
    try:
        yield service
    finally:
        await service.stop()


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "foo"])
@pytest.mark.parametrize("apart", [False, True])
def test_body_of_a_request_that_asks_to_upgrade_is_its_body(upgrade: str, apart: bool) -> None:
    async def scenario(service: Service) -> None:
        peer = await service.open()
        head = HEAD % len(BODY) + f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\r\n".encode()
        if apart:
            await peer.send(head)
            while not service.seen:
                await asyncio.sleep(0.01)
            await peer.send(BODY)
        else:
            await peer.send(head + BODY)
        assert (await peer.answer())[::2] == (200, BODY)
        assert (await peer.ask(b"GET /answer HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        assert service.seen == ["/echo", "/answer"]

    served(scenario)


@pytest.mark.parametrize(
    ("status", "request_", "word"),
    [
        (431, b"GET /answer HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 101 + b"\r\n", "100 headers"),
        (431, b"GET /answer HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", "32768 bytes"),
        (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "8192 bytes"),
        (400, b"GET /answer HTTP/1.1\r\n\r\n", "Host"),
        (400, b"GET /answer HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "Host"),
        (400, b"GET /answer HTTP/1.1\r\nHost: x/y\r\n\r\n", "host"),
        (400, b"GET /answer HTTP/1.1\r\nHost: x\r\nX-Request-Id: 1\r\nX-Request-Id: 2\r\n\r\n", "x-request-id"),
        (400, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "Content-Length"),
        (400, HEAD % 3 + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "length"),
        (400, b"POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "length"),
        (501, b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding"),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "2.0"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", ""),
    ],
)
def test_refuses_a_head_with_one_sentence(status: int, request_: bytes, word: str) -> None:
    async def scenario(service: Service) -> None:
        peer = await service.open()
        answered, headers, body = await peer.ask(request_)
        assert (answered, headers["connection"], headers["content-type"]) == (status, "close", "application/json")
        assert word in json.loads(body)["error"]
        assert await peer.closed() == b""
        assert service.seen == []

    served(scenario)


def test_head_without_end_is_given_up_by_size_and_by_time() -> None:
    async def scenario(service: Service) -> None:
        large, slow, later = [await service.open() for _ in range(3)]
        await large.send(b"GET /answer HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000)
        assert (await large.answer())[0] == 431
        await slow.send(b"GET /answer HTTP/1.1\r\nX-Slow: ")
        assert (await slow.answer())[0] == 408
        assert (await later.answer())[0] == 408
        again = await service.open()
        assert (await again.ask(b"GET /answer HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        await again.send(b"GET")
        assert (await again.answer())[0] == 408

    served(scenario, limits=Limits(head_seconds=0.3))


def test_bodies_have_limits_of_size_and_time() -> None:
    async def scenario(service: Service) -> None:
        large, chunked, slow, unread = [await service.open() for _ in range(4)]
        assert (await large.ask(HEAD % 10_000 + b"\r\n"))[0] == 413
        chunk = b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n2710\r\n" + b"a" * 10_000 + b"\r\n"
        assert (await chunked.ask(b"POST /echo HTTP/1.1\r\n" + chunk))[0] == 413
        assert (await slow.ask(HEAD % 100 + b"\r\nabc"))[0] == 408
        assert (await unread.ask(HEAD.replace(b"/echo", b"/nowhere") % 1000 + b"\r\nabc"))[0] == 404
        assert await unread.closed() == b""

    served(scenario, body_seconds=0.3)


def test_an_answer_comes_in_one_piece() -> None:
    async def scenario(service: Service) -> None:
        peer = await service.open()
        for body in (b"abc", b"x" * 5000):
            await peer.send(HEAD % len(body) + b"\r\n" + body)
            piece = await asyncio.wait_for(peer.reader.read(65_536), SECONDS)
            head, _, content = piece.partition(b"\r\n\r\n")
            assert (head.split()[1], content) == (b"200", body)

    served(scenario)


def test_body_that_nobody_read_leaves_the_connection_of_use() -> None:
    async def scenario(service: Service) -> None:
        peer = await service.open()
        assert (await peer.ask(HEAD.replace(b"/echo", b"/nowhere") % len(BODY) + b"\r\n"))[0] == 404
        assert (await peer.ask(BODY + b"GET /answer HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        assert service.seen == ["/answer"]

    served(scenario)


def test_who_waits_longest_for_a_request_makes_room() -> None:
    async def scenario(service: Service) -> None:
        busy, idle = await service.open(), await service.open()
        await busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await idle.ask(b"GET /answer HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        silent = [await service.open() for _ in range(20)]
        for peer in silent[:-2]:
            assert await peer.closed() == b""
        assert (await silent[-1].ask(b"GET /answer HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        assert (await idle.ask(b"GET /answer HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        service.go_on.set()
        assert (await busy.answer())[::2] == (200, b'"at last"')

    served(scenario, limits=Limits(connections=4))


def test_all_connections_busy_is_said() -> None:
    async def scenario(service: Service) -> None:
        first, second = await service.open(), await service.open()
        for peer in (first, second):
            await peer.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        while len(service.seen) < 2:
            await asyncio.sleep(0.01)
        third = await service.open()
        assert (await third.answer())[0] == 503

    served(scenario, limits=Limits(connections=2))


def test_the_end_answers_open_connections_and_tells_them_to_go() -> None:
    async def scenario(service: Service) -> None:
        pool = [await service.open() for _ in range(10)]
        for peer in pool:
            assert "connection" not in (await peer.ask(b"GET /answer HTTP/1.1\r\nHost: x\r\n\r\n"))[1]
        under_way = await service.open()
        await under_way.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        while "/slow" not in service.seen:
            await asyncio.sleep(0.01)
        end = asyncio.create_task(service.server.stop())
        while not service.server.edge.draining:
            await asyncio.sleep(0.01)
        for peer in [*pool, await service.open()]:
            status, headers, _ = await peer.ask(b"GET /answer HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (status, headers["connection"]) == (200, "close")
            assert await peer.closed() == b""
        service.go_on.set()
        assert (await under_way.answer())[::2] == (200, b'"at last"')
        await end
        service.server.linger = 0

    served(scenario, linger=10)


def test_idle_connections_are_closed_in_time() -> None:
    async def scenario(service: Service) -> None:
        peer = await service.open()
        assert (await peer.ask(b"GET /answer HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        assert await peer.closed() == b""

    served(scenario, limits=Limits(idle_seconds=1))


def test_old_http_is_answered() -> None:
    async def scenario(service: Service) -> None:
        peer = await service.open()
        status, headers, body = await peer.ask(b"GET /answer HTTP/1.0\r\n\r\n")
        assert (status, headers["connection"], body) == (200, "close", b'"here"')
        continued = await service.open()
        await continued.send(HEAD % 3 + b"Expect: 100-continue\r\n\r\n")
        assert b"100" in await continued.reader.readuntil(b"\r\n\r\n")
        assert (await continued.ask(b"abc"))[::2] == (200, b"abc")

    served(scenario)


def test_pages_of_other_sites_may_not_post() -> None:
    async def scenario(service: Service) -> None:
        peer = await service.open()
        own = HEAD % 2 + b"Origin: http://outer\r\n\r\n{}"
        assert (await peer.ask(own))[0] == 200
        status, _, body = await peer.ask(own.replace(b"http://outer", b"https://evil.example"))
        assert (status, service.seen) == (403, ["/echo"])
        assert "evil.example" in json.loads(body)["error"]
        assert (await peer.ask(own.replace(b"http://outer", b"null")))[0] == 403
        # As a URL the second can't be read: a bracket stands for an address of IPv6.
        for strange in (b"https://evil.\x99\x15\xef", b"https://evil.]~", b"http://[", b"//outer", b"http://outer/x"):
            status, _, body = await peer.ask(own.replace(b"http://outer", strange))
            assert (status, "header origin" in json.loads(body)["error"]) == (403, True)

    served(scenario)


@pytest.mark.parametrize("host", [b"[", b"x]", b"[::1", b"a:b:c", b"\xff"])
def test_a_strange_host_is_no_fault_of_ours(host: bytes) -> None:
    async def scenario(service: Service) -> None:
        for line in (b"GET /answer", b"GET /nowhere", b"PUT /answer"):
            peer = await service.open()
            status, _, body = await peer.ask(line + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert status in (200, 400, 404, 405), body

    served(scenario)
