"""The HTTP edge of every service: ids, bodies, errors, and what is refused before a service sees it."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from math import isfinite
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry, exposition
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from offers.errors import RequestError, RequestTooLarge
from serving.process.logs import caller, log_fault, request_id
from serving.process.telemetry import REQUEST_ID, observed

BODY_SECONDS = 10.0
BODY_BYTES = 8 * 2**20
_LAST_SECONDS = 1.0

Endpoint = Callable[[Request], Awaitable[Response]]
Kinds = Mapping[type[Exception], int]
"""The status that answers an exception; the first kind that fits counts."""

Admit = Callable[[str], Awaitable[str]]
"""Names the caller by the header `Authorization`; raises `Refused`."""

OPEN = frozenset({"/", "/metrics", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""What probes and scrapers ask without a token."""

KINDS: Kinds = {RequestTooLarge: 413, RequestError: 400, ClientDisconnect: 499}


class Refused(Exception):  # noqa: N818
    """A caller is not let in."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str]) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers


class Bodies:
    """Reads bodies, and gives up those that stall: else a caller who sends half of one holds up the service's end.

    Parameters
    ----------
    limit : a body has fewer bytes
    seconds : for a whole body to arrive
    """

    def __init__(self, limit: int = BODY_BYTES, seconds: float = BODY_SECONDS) -> None:
        self.limit, self.seconds = limit, seconds
        self._awaited: set[asyncio.Timeout] = set()

    async def read(self, request: Request) -> bytes:
        """Read a body.

        Raises
        ------
        RequestTooLarge
            as soon as that is known
        HTTPException
            415: it is encoded; 408: it does not arrive in time
        """
        encoding, declared = request.headers.get("content-encoding", "identity"), request.headers.get("content-length")
        if encoding.lower() != "identity":
            raise HTTPException(415, f"the body: expected no content-encoding, got {encoding[:60]!r}")
        if declared is not None and int(declared) >= self.limit:
            raise RequestTooLarge(f"the body: expected less than {self.limit} bytes, got {declared[:20]}")
        deadline = asyncio.timeout(self.seconds)
        self._awaited.add(deadline)
        try:
            async with deadline:
                return await self._read(request)
        except TimeoutError:
            sentence = f"the body: expected all of it within {self.seconds:g} s, but it stopped short: send it again"
            raise HTTPException(408, sentence, {"connection": "close"}) from None
        finally:
            self._awaited.remove(deadline)

    def hurry(self) -> None:
        """Give up within a second whatever does not arrive, now and from now on."""
        self.seconds = min(self.seconds, _LAST_SECONDS)
        soon = asyncio.get_running_loop().time() + self.seconds
        for deadline in self._awaited:
            if not deadline.expired():
                deadline.reschedule(min(deadline.when() or soon, soon))

    async def _read(self, request: Request) -> bytes:
        parts, arrived = list[bytes](), 0
        async for part in request.stream():
            arrived += len(part)
            if arrived >= self.limit:
                raise RequestTooLarge(f"the body: expected less than {self.limit} bytes, got {arrived} and more")
            parts.append(part)
        return b"".join(parts)


class Edge:
    """Gives each request an id, a line in the log and a place in the metrics; refuses pages of other sites.

    Attributes
    ----------
    admit : asked for the caller of each request but those of probes; None lets everybody in
    draining : whether answers close their connections
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.admit: Admit | None = None
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        with observed("unknown", headers.get(REQUEST_ID.encode(), b"").decode("latin-1")) as record:

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    record.route, record.status = scope.get("offers.route", record.route), str(message["status"])
                    message["headers"] = [*message.get("headers", ()), *self._own()]
                await send(message)

            refusal = await self._refused(scope, headers)
            await (refusal or self.app)(scope, receive, answer)

    async def _refused(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Response | None:
        if reason := _foreign(scope["method"], headers):
            return error(HTTPStatus.FORBIDDEN, reason)
        if self.admit is not None and scope["path"] not in OPEN:
            try:
                caller.set(await self.admit(headers.get(b"authorization", b"").decode("latin-1")))
            except Refused as refusal:
                return error(refusal.status, str(refusal), refusal.headers)
        return None

    def _own(self) -> list[tuple[bytes, bytes]]:
        own = [(REQUEST_ID.encode(), request_id.get().encode()), (b"x-content-type-options", b"nosniff")]
        return [*own, (b"connection", b"close")] if self.draining else own


def application(routes: Mapping[tuple[str, str], Endpoint], kinds: Kinds = KINDS) -> Edge:
    """Build a service.

    Parameters
    ----------
    routes : endpoints by method and path
    kinds : what a caller may meet; an exception of any other kind is a fault of ours
    """

    async def refuse(request: Request, fault: Exception) -> Response:
        if isinstance(fault, HTTPException):
            fault.detail = f"{request.method} {request.scope['path'][:100]}: {fault.detail.lower()}"
        return failed(fault, kinds)

    app = Starlette(
        routes=[_route(path, endpoint, method, kinds) for (method, path), endpoint in routes.items()],
        exception_handlers=dict.fromkeys((HTTPException, Exception), refuse),
    )
    app.router.redirect_slashes = False
    return Edge(app)


def failed(fault: Exception, kinds: Kinds = KINDS) -> Response:
    """Find the answer for an exception; a fault of ours is logged, and its answer tells the request id only."""
    if isinstance(fault, HTTPException):
        return error(fault.status_code, fault.detail, fault.headers)
    for kind, status in kinds.items():
        if isinstance(fault, kind):
            return error(status, str(fault), getattr(fault, "headers", None))
    log_fault(fault)
    return error(500, f"a fault of ours, not of the request: report request id {request_id.get()}")


def error(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """The one form of an answer that is an error."""
    return Response(json.dumps({"error": sentence}), status, headers, media_type="application/json")


def metrics(registry: CollectorRegistry) -> Endpoint:
    """Show a registry's metrics, plain where the version that is asked for is none."""

    async def shown(request: Request) -> Response:
        try:
            encoder, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
            content = encoder(registry)
        except (TypeError, ValueError):
            content, content_type = exposition.generate_latest(registry), exposition.CONTENT_TYPE_PLAIN_0_0_4
        return Response(content, headers={"content-type": content_type})

    return shown


def strict_json(body: bytes) -> Any:
    """Read JSON that every other reader can read again.

    Raises
    ------
    RequestError
        it is none, or holds NaN, Infinity, half of a surrogate pair, or more digits or levels than can be read
    """
    try:
        content = json.loads(body, parse_constant=_no_number, parse_float=_float, parse_int=_integer)
        if b"\\u" in body:
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise RequestError("the body: expected JSON, got one with too many levels") from None
    except UnicodeEncodeError:
        raise RequestError("the body: expected text in UTF-8, got half of a surrogate pair") from None
    except ValueError as fault:
        raise RequestError(f"the body: expected JSON in UTF-8, got {len(body)} bytes that are not: {fault}") from None
    return content


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no number of 64 bits")


def _float(text: str) -> float:
    return value if isfinite(value := float(text)) else _no_number(text)


def _integer(text: str) -> int:
    return value if len(text) <= 20 and abs(value := int(text)) < 2**63 else _no_number(text)


def label(path: str) -> str:
    """The path of a route as metrics and logs call it: without what its parameters may hold."""
    return re.sub(r":\w+}", "}", path)


def _route(path: str, endpoint: Endpoint, method: str, kinds: Kinds) -> Route:
    plain = label(path)

    async def named(request: Request) -> Response:
        request.scope["offers.route"] = plain
        try:
            return await endpoint(request)
        except Exception as fault:
            return failed(fault, kinds)

    return Route(path, named, methods=[method], name=plain)


def _foreign(method: str, headers: Mapping[bytes, bytes]) -> str:
    """Why a browser's page may not send this: it is one of another site."""
    if method in ("GET", "HEAD") or b"origin" not in headers:
        return ""
    origin = headers[b"origin"].decode("latin-1")
    # An origin is a scheme and a host, without a path. It is not parsed: a parser has rules that strange bytes break.
    if origin.partition("://")[2].lower() == headers.get(b"host", b"").decode("latin-1").lower():
        return ""
    return f"header origin: expected a page of this service, or no browser, got {origin[:60]!r}"
