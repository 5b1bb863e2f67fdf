"""Requests with something wrong in their bytes, headers, JSON, tensors or gRPC messages: none is a fault of ours.

OFFERS_FUZZ says how many; the same seed sends the same requests. What fails is named by its number.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest

from offers.bundle import bundle as bundles
from serving.local import Running, Services, services
from serving.protocol.kserve import GRPCInferenceServiceStub, messages
from tests.support.rankers import FALLBACK, GOOD

REQUESTS = int(os.environ.get("OFFERS_FUZZ", "2000"))
AT_ONCE, SECONDS, PATIENCE = 96, 20.0, 0.5
PREDICT, EXPLAIN, INFER = "/v1/models/offers:predict", "/v1/models/offers:explain", "/v2/models/offers/infer"
ALLOWED = {501, 503, 505}
"""Of 500 and more: a transfer-encoding that nobody knows, all connections busy, another version of HTTP."""
MOST_BYTES = 60 * 2**20
"""By which the memory of a service may grow in all; it depends on nobody's number of requests."""

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**53 + 1, 2**63, 2**64, 10**400, -0.0, 1e308, 1e-320, "", "x" * 5000, "\x00", "\u202e",
    [], {}, [[]], [None] * 50, {"customer_id": 1}, float("nan"), float("inf"), "1e5", "' OR 1=1 --", "../../etc/passwd",
)  # fmt: skip
HEADERS = (
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip",
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999", b"Expect: 100-continue", b"Host: y",
    b"Content-Encoding: gzip", b"Inference-Header-Content-Length: 7", b"X-Request-Id: \xff\x00", b"X: " + b"a" * 9000,
    b"Accept: application/openmetrics-text; version=x", b"Origin: https://evil.example", b"no colon", b": nothing",
    b"Content-Type: application/json; charset=\xff", b"Authorization: Bearer x", b"Range: bytes=0-1", b" folded: yes",
    b"Origin: http://[", b"Host: [::1",
)  # fmt: skip


@pytest.fixture(scope="module")
def running(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    catalogue = tmp_path_factory.mktemp("catalogue") / "warranties.yaml"
    catalogue.write_text(FALLBACK)
    with services(shop_bundle, str(catalogue), tmp_path_factory.mktemp("logs")) as running:
        yield running


@pytest.fixture(scope="module")
def templates(shop_bundle: Path) -> dict[str, list[tuple[str, Any]]]:
    """Good requests of each service, by path."""
    bundle = bundles.load(shop_bundle)
    rows = json.loads((shop_bundle / "golden.json").read_text("utf-8"))["rows"][:3]
    tensors = [_tensor(column.name, [row[column.name] for row in rows]) for column in bundle.contract.inputs]
    instances = {"instances": rows}
    question = {"instances": [GOOD, GOOD | {"customer_id": "Paul", "k": 1, "offers": ["basic"]}]}
    return {
        "predictor": [(PREDICT, instances), (EXPLAIN, instances), (INFER, {"id": "1", "inputs": tensors})],
        "ranker": [(PREDICT, question), (PREDICT, question), ("/metrics", None), ("/v2/health/ready", None)],
    }


def _tensor(name: str, values: list[Any]) -> dict[str, Any]:
    kind = "BYTES" if any(isinstance(value, str) for value in values) else "FP64"
    return {"name": name, "datatype": kind, "shape": [len(values)], "data": values}


class Mutator:
    """Draws requests from templates, and breaks them."""

    def __init__(self, templates: list[tuple[str, Any]], seed: int) -> None:
        self.templates, self.random = templates, random.Random(seed)

    def request(self) -> bytes:
        path, content = self.random.choice(self.templates)
        body = b"" if content is None else self._body(json.loads(json.dumps(content)))
        head = [b"%s %s HTTP/1.1" % (b"POST" if body else b"GET", path.encode()), b"Host: x", b"Connection: close"]
        head += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)] if body else []
        if self.random.random() < 0.3:
            head.insert(self.random.randint(1, len(head)), self.random.choice(HEADERS))
        whole = b"\r\n".join(head) + b"\r\n\r\n" + body
        return self._bytes(whole) if self.random.random() < 0.3 else whole

    def _body(self, content: Any) -> bytes:
        for _ in range(self.random.randint(0, 3)):
            self._change(content)
        try:
            text = json.dumps(content)
        except ValueError:
            # A part was put into itself, which JSON can't write.
            text = "{}"
        if self.random.random() < 0.1:
            text = text.replace('"Maria"', '"\\ud800"').replace("1", "1" * self.random.randint(1, 400), 1)
        if self.random.random() < 0.02:
            text = "[" * self.random.randint(1, 50_000) + text
        return text.encode()

    def _change(self, content: Any) -> None:
        """Change one value somewhere in a JSON value."""
        while True:
            places = list(content) if isinstance(content, dict) else range(len(content))
            if not places:
                return
            place = self.random.choice(list(places))
            inner = content[place]
            if isinstance(inner, dict | list) and inner and self.random.random() < 0.8:
                content = inner
                continue
            if isinstance(content, dict) and self.random.random() < 0.2:
                del content[place]
            elif isinstance(content, dict) and self.random.random() < 0.1:
                content["".join(self.random.choices("abk_\u00e9", k=5))] = inner
            else:
                content[place] = self.random.choice(VALUES)
            return

    def _bytes(self, whole: bytes) -> bytes:
        broken = bytearray(whole)
        for _ in range(self.random.randint(1, 4)):
            place = self.random.randrange(len(broken))
            act = self.random.random()
            if act < 0.6:
                broken[place] = self.random.randrange(256)
            elif act < 0.8:
                del broken[place : place + self.random.randint(1, 20)]
            else:
                broken[place:place] = self.random.randbytes(self.random.randint(1, 20))
            if not broken:
                return b"\r\n"
        return bytes(broken)


async def _sent(port: int, request: bytes) -> bytes:
    """What is answered; nothing where more was awaited."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    # Where the header that asks for it was broken, the connection stays open.
    with contextlib.closing(writer), contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(request)
        async with asyncio.timeout(SECONDS):
            await writer.drain()
        async with asyncio.timeout(PATIENCE):
            while part := await reader.read(65_536):
                answer += part
    return answer


def _wrong(answer: bytes) -> str:
    """What is wrong with an answer; empty where nothing is."""
    answer = re.sub(rb"^HTTP/1\.1 100 [^\r]*\r\n(?:[^\r]+\r\n)*\r\n", b"", answer)
    if not answer:
        return ""
    form = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    if form is None:
        return "no answer of HTTP"
    status, body = int(form[1]), answer.partition(b"\r\n\r\n")[2]
    if status >= 500 and status not in ALLOWED:
        return f"status {status}"
    if status >= 400:
        return "" if b'{"error": ' in body or b'{"error":' in body or not body else "an error of another form"
    predictions = json.loads(body).get("predictions", []) if body.startswith(b'{"predictions"') else []
    strange = [one for one in predictions if isinstance(one, float) and not 0 <= one <= 1]
    return f"propensities {strange}" if strange else ""


@pytest.mark.parametrize("name", ["predictor", "ranker"])
def test_broken_requests_are_refused(name: str, running: Services, templates: dict[str, list[tuple[str, Any]]]) -> None:
    service: Running = getattr(running, name)
    mutator, process = Mutator(templates[name], REQUESTS), psutil.Process(service.process.pid)
    golden = next((path, body) for path, body in templates[name] if path == PREDICT)
    port, statuses, faults = service.bound["http_port"], Counter[str](), list[str]()

    numbers = iter(range(REQUESTS // 2))

    async def work() -> None:
        for number in numbers:
            request = mutator.request()
            answer = await _sent(port, request)
            statuses[answer[9:12].decode("latin-1")] += 1
            if wrong := _wrong(answer):
                faults.append(f"request {number}: {wrong}: {request[:400]!r} -> {answer[:300]!r}")

    async def run() -> int:
        await asyncio.gather(*(_sent(port, mutator.request()) for _ in range(AT_ONCE)))
        before = process.memory_info().rss
        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        return process.memory_info().rss - before

    grown = asyncio.run(run())
    assert faults == []
    assert statuses["200"] > REQUESTS / 50
    assert statuses["400"] > REQUESTS / 50
    assert grown < MOST_BYTES
    answer = httpx.post(f"{service.url}{golden[0]}", json=golden[1], timeout=SECONDS, trust_env=False)
    assert answer.status_code == 200, answer.text


def test_broken_messages_of_grpc_are_refused(running: Services, templates: dict[str, list[tuple[str, Any]]]) -> None:
    generator, known = random.Random(REQUESTS), templates["predictor"][2][1]["inputs"]
    codes = Counter[grpc.StatusCode]()
    with grpc.insecure_channel(f"127.0.0.1:{running.predictor.bound['grpc_port']}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        for _ in range(max(50, REQUESTS // 20)):
            tensors, contents = zip(*(_broken(generator, tensor) for tensor in known), strict=True)
            name = generator.choice(["offers"] * 5 + ["", "x" * 300])
            raw = list(contents[: generator.choice([len(contents)] * 4 + [2])])
            request = messages.ModelInferRequest(model_name=name, inputs=tensors, raw_input_contents=raw)
            try:
                stub.ModelInfer(request, timeout=SECONDS)
                codes[grpc.StatusCode.OK] += 1
            except grpc.RpcError as error:
                codes[error.code()] += 1
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > 0


def _broken(generator: random.Random, tensor: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    values = tensor["data"]
    if tensor["datatype"] == "BYTES":
        words = [(value or "").encode() for value in values]
        raw = b"".join(struct.pack("<I", len(word)) + word for word in words)
    else:
        raw = b"".join(struct.pack("<d", float("nan") if value is None else value) for value in values)
    shown = {key: tensor[key] for key in ("name", "datatype", "shape")}
    act = generator.random()
    if act < 0.1:
        raw = generator.randbytes(generator.randint(0, 64))
    elif act < 0.15:
        shown["shape"] = [generator.choice([-1, 0, 2, 2**40, 2**62])] * generator.choice([1, 1, 2])
    elif act < 0.2:
        shown["datatype"] = generator.choice(["INT64", "BOOL", "FP16", "BF16", "", "BYTES", "UINT8"])
    elif act < 0.22:
        shown["name"] = generator.choice(["", "x", "channel"])
    return shown, raw
