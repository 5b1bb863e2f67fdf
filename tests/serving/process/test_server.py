import asyncio
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.message import Message

from offers.errors import ServiceError
from serving.process.edge import application as build
from serving.process.listening import HttpServer, bound
from serving.process.logs import JsonLines
from serving.process.server import Address, Server
from serving.protocol.kserve import InferenceServicer, InferOutput, InferRequest, InferResponse, Model, messages
from serving.protocol.payload import Payload
from tests.support.services import DEADLINE, serving

LOCAL = Address(http_port=0, grpc_port=0)
PREDICT, INFER = "/v1/models/echo:predict", "/v2/models/echo/infer"
CALL = "/inference.GRPCInferenceService/"


class Echo(Model):
    """Answers with what it was asked, once `release` is set; fails where it is asked to."""

    platform, version = "test", "echo-1"

    def __init__(self) -> None:
        super().__init__("echo")
        self.ready = True
        self.asked, self.release = asyncio.Event(), asyncio.Event()
        self.release.set()

    async def predict(
        self, payload: Payload, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        self.asked.set()
        await self.release.wait()
        if isinstance(payload, InferRequest):
            return InferResponse("1", "echo", [InferOutput("n", [1], "INT64", [len(payload.inputs)])], from_grpc=True)
        if "fail" in payload:
            raise ValueError("Maria Example, born 1970")
        return payload


@asynccontextmanager
async def served(echo: Echo) -> AsyncIterator[tuple[Server, httpx.AsyncClient, grpc.aio.Channel]]:
    server = Server([echo], grace=DEADLINE)
    bound = await server.start(LOCAL)
    try:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{bound.http_port}", timeout=DEADLINE) as client,
            grpc.aio.insecure_channel(f"127.0.0.1:{bound.grpc_port}") as channel,
        ):
            yield server, client, channel
    finally:
        echo.release.set()
        await server.stop()


def run(test: Callable[..., Awaitable[None]]) -> None:
    """Run a test against an echoing server in this very process."""

    async def call() -> None:
        echo = Echo()
        async with served(echo) as (server, client, channel):
            await asyncio.wait_for(test(echo, server, client, channel), DEADLINE)

    asyncio.run(call())


def call(channel: grpc.aio.Channel, method: str, request: Message, answer: type[Message]) -> grpc.aio.UnaryUnaryCall:
    made = channel.unary_unary(CALL + method, request.SerializeToString, answer.FromString)
    return made(request, timeout=DEADLINE)


def infer(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryCall:
    return call(channel, "ModelInfer", messages.ModelInferRequest(model_name="echo"), messages.ModelInferResponse)


async def _status(awaited: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await awaited
    return error.value.code(), error.value.details()


def test_addresses_of_both_protocols() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        expected = {
            "/": {"status": "alive"},
            "/v1/models": {"models": ["echo"]},
            "/v1/models/echo": {"name": "echo", "ready": True},
            "/v2": {"name": "offers", "version": "0.1.0", "extensions": ["binary_tensor_data"]},
            "/v2/health/live": {"live": True},
            "/v2/health/ready": {"ready": True},
            "/v2/models": {"models": ["echo"]},
            "/v2/models/echo/ready": {"name": "echo", "ready": True},
            "/v2/models/echo/versions/echo-1/ready": {"name": "echo", "ready": True},
        }
        for path, content in expected.items():
            answer = await client.get(path)
            assert (answer.status_code, answer.json()) == (200, content)
        ready = await call(channel, "ServerReady", messages.ServerReadyRequest(), messages.ServerReadyResponse)
        assert ready.ready

    run(test)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/repository/models/echo/load", 404),
        ("POST", "/v2/repository/models/echo/unload", 404),
        ("POST", "/v2/repository/index", 404),
        ("GET", "/v3", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2/models/echo", 405),
        ("GET", "/v1/models/cart", 404),
        ("GET", "/v2/models/cart", 404),
        ("GET", "/v2/models/cart/ready", 404),
        ("POST", "/v1/models/cart:predict", 404),
        ("POST", "/v1/models/cart:explain", 404),
        ("POST", "/v1/models/echo:explain", 404),
        ("GET", "/v2/models/echo/", 404),
        ("GET", "/v2/health/ready/", 404),
        ("POST", f"{PREDICT}/", 404),
        ("POST", "/v2/models/cart/infer", 404),
        ("POST", "/v2/models/echo/versions/echo-0/infer", 404),
    ],
)
def test_what_is_not_there(method: str, path: Any, status: int) -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        answer = await client.request(method, path, content=b"" if method == "POST" else None)
        assert answer.status_code == status
        assert "location" not in answer.headers
        assert list(answer.json()) == ["error"]
        assert echo.ready

    run(test)


def test_a_model_can_not_be_unloaded_by_grpc() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
            request, answer = getattr(messages, f"{method}Request"), getattr(messages, f"{method}Response")
            code, _ = await _status(call(channel, method, request(model_name="echo"), answer))
            assert code == grpc.StatusCode.UNIMPLEMENTED
        assert (await infer(channel)).outputs[0].name == "n"

    run(test)


def test_a_model_that_is_not_ready() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        echo.ready = False
        for path in ("/v2/health/ready", "/v2/models/echo/ready", "/v1/models/echo"):
            answer = await client.get(path)
            assert (answer.status_code, list(answer.json())) == (503, ["error"])
        for path in (PREDICT, INFER):
            assert (await client.post(path, json={})).status_code == 503
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await _status(infer(channel)))[0] == grpc.StatusCode.UNAVAILABLE
        ready = await call(channel, "ServerReady", messages.ServerReadyRequest(), messages.ServerReadyResponse)
        assert not ready.ready
        assert not echo.asked.is_set()

    run(test)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_8_mib_is_too_large(declared: bool) -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(128):
                yield b"x" * 65536

        body = b"x" * 2**23 if declared else chunks()
        answer = await client.post(PREDICT, content=body)
        assert answer.status_code == 413
        assert answer.json()["error"].startswith("the body: expected less than 8388608 bytes, got ")

    run(test)


def test_a_body_just_below_8_mib_is_read() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        text = "x" * (2**23 - 12)
        answer = await client.post(PREDICT, content=json.dumps({"a": text}).encode())
        assert answer.json() == {"a": text}

    run(test)


def test_a_packed_body_is_refused() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        answer = await client.post(PREDICT, content=b"...", headers={"content-encoding": "gzip"})
        assert answer.status_code == 415
        assert answer.json() == {"error": "the body: expected no content-encoding, got 'gzip'"}

    run(test)


@pytest.mark.parametrize("encoding", ["identity", "IDENTITY", "Identity"])
def test_a_body_that_is_not_packed_may_say_so(encoding: str) -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        answer = await client.post(PREDICT, content=b'{"a": 1}', headers={"content-encoding": encoding})
        assert answer.json() == {"a": 1}

    run(test)


def test_a_key_that_stands_twice_counts_as_it_stands_last() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        assert (await client.post(PREDICT, content=b'{"a": 1, "a": 2}')).json() == {"a": 2}
        assert "the last one counts" in (await client.get("/openapi.json")).json()["info"]["description"]

    run(test)


def test_a_verb_that_a_model_lacks() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        answer = await client.post("/v1/models/echo:explain", json={})
        assert answer.status_code == 404
        assert answer.json() == {"error": "model 'echo' explains nothing: ask the predictor's :explain"}

    run(test)


def test_a_long_name_is_cut() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        for path in ("/v1/models/{}", "/v2/models/{}/ready", "/v2/models/echo/versions/{}", "/v9/{}"):
            answer = await client.get(path.format("x" * 6_000))
            assert answer.status_code == 404
            assert len(answer.text) < 300

    run(test)


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=a.b",
        "text/plain; version=a.b.c",
        "text/plain; version=",
        "application/json",
    ],
)
def test_metrics_in_a_form_that_there_is_not_are_plain_text(accept: str) -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        answer = await client.get("/metrics", headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert "offers_requests_in_flight 1.0" in answer.text.splitlines()

    run(test)


def test_metrics_as_openmetrics() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        answer = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.text.endswith("# EOF\n")

    run(test)


def test_a_fault_tells_its_request_id_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        answer = await client.post(PREDICT, json={"fail": 1}, headers={"x-request-id": "abc-1"})
        assert answer.status_code == 500
        assert answer.json() == {"error": "a fault of ours, not of the request: report request id abc-1"}
        assert answer.headers["x-request-id"] == "abc-1"

    with caplog.at_level(logging.INFO):
        run(test)
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "offers.serving"]
    fault = next(line for line in lines if line["event"] == "fault")
    assert fault["exception"] == "ValueError"
    assert "test_server.py" in fault["at"][-1]
    assert "Maria" not in caplog.text + json.dumps(lines)


def test_a_fault_by_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(
        self: InferenceServicer, request: messages.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> None:
        raise ValueError("Maria Example, born 1970")

    monkeypatch.setattr(InferenceServicer, "ModelInfer", broken)

    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        code, sentence = await _status(infer(channel))
        assert code == grpc.StatusCode.INTERNAL
        assert sentence.startswith("a fault of ours, not of the request: report request id ")

    run(test)


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, '"quoted"'])
def test_a_request_id_that_is_not_plain_is_replaced(given: str) -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        answer = await client.get("/v2", headers={"x-request-id": given} if given else {})
        assert len(answer.headers["x-request-id"]) == 32

    run(test)


def test_grpc_returns_the_request_id() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        request = messages.ModelReadyRequest(name="echo")
        made = channel.unary_unary(
            f"{CALL}ModelReady", request.SerializeToString, messages.ModelReadyResponse.FromString
        )
        asked = made(request, metadata=(("x-request-id", "abc-2"),), timeout=DEADLINE)
        await asked
        assert dict(await asked.trailing_metadata())["x-request-id"] == "abc-2"

    run(test)


def test_requests_are_counted_by_route_and_status_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        async def counted(route: str, status: str) -> float:
            sought = f'offers_requests_total{{route="{route}",status="{status}"}} '
            lines = (await client.get("/metrics")).text.splitlines()
            return next((float(line.split()[-1]) for line in lines if line.startswith(sought)), 0)

        kinds = [
            ("/v1/models/{model_name}:predict", "200"),
            ("/v1/models/{model_name}:predict", "400"),
            ("unknown", "404"),
            (f"{CALL}ModelInfer", "OK"),
        ]
        before = [await counted(*kind) for kind in kinds]
        await client.post(PREDICT, json={"customer": "Maria"}, headers={"x-request-id": "abc-3"})
        await client.post(PREDICT, content=b"Maria")
        await client.get("/Maria")
        await infer(channel)
        assert [await counted(*kind) for kind in kinds] == [count + 1 for count in before]
        metrics = (await client.get("/metrics")).text
        assert 'offers_request_seconds_bucket{le="0.005",route="/v1/models/{model_name}:predict"}' in metrics
        assert "offers_requests_in_flight 1.0" in metrics
        assert 'offers_model_version_info{model="echo",version="echo-1"} 1.0' in metrics

    with caplog.at_level(logging.INFO, "offers.serving"):
        run(test)
    ours = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "offers.serving"]
    assert [(line["route"], line["status"]) for line in ours] == [
        ("/v1/models/{model_name}:predict", "200"),
        ("/v1/models/{model_name}:predict", "400"),
        ("unknown", "404"),
        (f"{CALL}ModelInfer", "OK"),
    ]
    assert "Maria" not in json.dumps(ours)


def test_the_route_of_a_health_check_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        await client.get("/v2/health/ready")

    with caplog.at_level(logging.INFO, "offers.serving"):
        run(test)
    assert not [record for record in caplog.records if record.name == "offers.serving"]


def test_requests_under_way_are_answered_when_it_stops() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        echo.release.clear()
        first = asyncio.create_task(client.post(PREDICT, json={"a": 1}))
        await echo.asked.wait()
        echo.asked.clear()
        second = asyncio.ensure_future(infer(channel))
        await echo.asked.wait()
        stopping = asyncio.create_task(server.stop())
        while not await _refused(client.base_url.port):
            await asyncio.sleep(0)
        assert not first.done()
        assert not stopping.done()
        echo.release.set()
        assert (await first).json() == {"a": 1}
        assert (await second).outputs[0].name == "n"
        await stopping

    asyncio.run(_with_own_stop(test))


HALF = f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{".encode()
GIVEN_UP = "the body: expected all of it within {} s, but it stopped short: send it again"


def _given_up(answer: bytes, seconds: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body) == {"error": GIVEN_UP.format(seconds)}


def test_a_body_that_stops_short_is_given_up() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(HALF)
        _given_up(await reader.read(), "0.05")
        writer.close()
        await server.stop()
        assert not echo.asked.is_set()

    asyncio.run(_with_own_stop(test, body_seconds=0.05))


def test_a_body_that_stops_short_does_not_hold_up_the_end() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(HALF)
        # The scrape itself is the other request in flight.
        while "offers_requests_in_flight 2.0" not in (await client.get("/metrics")).text:
            pass
        stopping = asyncio.create_task(server.stop())
        _given_up(await reader.read(), "1")
        await stopping
        writer.close()

    asyncio.run(_with_own_stop(test, body_seconds=10 * DEADLINE))


async def _with_own_stop(test: Callable[..., Awaitable[None]], body_seconds: float = DEADLINE) -> None:
    echo = Echo()
    server = Server([echo], DEADLINE, body_seconds)
    bound = await server.start(LOCAL)
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{bound.http_port}", timeout=DEADLINE) as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{bound.grpc_port}") as channel,
    ):
        await asyncio.wait_for(test(echo, server, client, channel), DEADLINE)


async def _refused(port: int | None) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


def test_it_is_unready_while_it_stops() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        server.plane.draining = True
        assert (await client.get("/v2/health/ready")).status_code == 503
        assert (await client.get("/v2/health/live")).status_code == 200

    run(test)


def test_a_slow_model_holds_up_no_health_check() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        echo.release.clear()
        slow = asyncio.create_task(client.post(PREDICT, json={}))
        await echo.asked.wait()
        assert (await client.get("/v2/health/ready")).status_code == 200
        assert not slow.done()
        echo.release.set()
        await slow

    run(test)


def test_a_port_that_is_taken() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for wanted in (Address(http_port=port, grpc_port=0), Address(http_port=0, grpc_port=port)):
                with pytest.raises(ServiceError, match=f"can't listen on port {port} of 127.0.0.1: .*; name another"):
                    await Server([Echo()]).start(wanted)

    run(test)


def test_two_servers_do_not_share_a_port() -> None:
    async def test(echo: Echo, server: Server, client: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        port = client.base_url.port
        with pytest.raises(ServiceError, match=f"can't listen on port {port} "):
            await Server([Echo()]).start(Address(http_port=port, grpc_port=0))
        grpc_port = server.address.grpc_port
        with pytest.raises(ServiceError, match=f"can't listen on port {grpc_port} "):
            await Server([Echo()]).start(Address(http_port=0, grpc_port=grpc_port))

    run(test)


def test_of_two_that_took_a_port_before_either_listened_one_is_told() -> None:
    async def run() -> None:
        with bound("127.0.0.1", 0) as first, bound("127.0.0.1", first.getsockname()[1]) as second:
            server = HttpServer(build({}, {}), linger=0.01)
            server.start(first)
            with pytest.raises(ServiceError, match="name another port, or 0 for a free one"):
                HttpServer(build({}, {})).start(second)
            await server.stop()

    asyncio.run(run())


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ServiceError, match=r"can't listen on port 0 of 192\.0\.2\.1"):
        asyncio.run(Server([Echo()]).start(Address("192.0.2.1", 0, 0)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_a_request_answers_it_and_ends_with_0(number: Any, shop_bundle: Path, tmp_path: Path) -> None:
    golden = json.loads((shop_bundle / "golden.json").read_text("utf-8"))
    body = json.dumps({"instances": golden["rows"]}).encode()
    head = f"POST /v1/models/shop:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    log = tmp_path / "log"
    with serving("serving.predictor", log, "--bundle", shop_bundle, "--name", "shop") as service:
        with socket.create_connection(("127.0.0.1", service.http_port), timeout=DEADLINE) as connection:
            connection.sendall(head + body[:100])
            # The scrape itself is the other request in flight.
            while "offers_requests_in_flight 2.0" not in httpx.get(f"{service.url}/metrics").text:
                pass
            service.process.send_signal(number)
            while httpx.get(f"{service.url}/v2/health/ready").status_code != 503:
                pass
            connection.sendall(body[100:])
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"] == golden["propensity"]
        assert service.process.wait(DEADLINE) == 0
    assert [line["status"] for line in service.lines() if line["event"] == "request"] == ["200"]
