"""The sidecar over HTTP: events in; report, metrics and health out."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry, exposition
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from offers.errors import RequestError, RequestTooLarge
from serving.drift.events import WrongBundle
from serving.drift.metrics import Figures
from serving.drift.monitor import Busy, Monitor
from serving.drift.page import page
from serving.process.logs import log_fault

MOST_BYTES = 8 * 1024 * 1024
_STATUS = {WrongBundle: 409, RequestTooLarge: 413, RequestError: 400, Busy: 503}

Endpoint = Callable[[Request], Awaitable[Response]]


def application(monitor: Monitor) -> Starlette:
    """Build the application that answers for a monitor."""
    watch, registry = _Watch(monitor), CollectorRegistry()
    registry.register(Figures(monitor))

    async def metrics(request: Request) -> Response:
        encoder, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(registry), headers={"content-type": content_type})

    gets = {
        "/": watch.report,
        "/report": watch.report,
        "/metrics": metrics,
        "/healthz": watch.health,
        "/readyz": watch.ready,
    }
    routes = [_route(path, watch.take, "POST") for path in ("/", "/events")]
    routes += [_route(path, endpoint, "GET") for path, endpoint in gets.items()]
    return Starlette(routes=routes, exception_handlers={HTTPException: _refuse})


class _Watch:
    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    async def take(self, request: Request) -> Response:
        try:
            body = await _body(request)
            # Beside the event loop, where a large batch holds up no health check.
            batch = await asyncio.to_thread(self.monitor.schema.read, dict(request.headers), body)
        except (RequestError, HTTPException):
            self.monitor.refused()
            raise
        return JSONResponse({"outcome": self.monitor.take(batch), "rows": len(batch.rows)}, HTTPStatus.ACCEPTED)

    async def report(self, request: Request) -> Response:
        wanted = request.query_params.get("format") or _preferred(request.headers.get("accept", ""))
        if wanted not in ("json", "html"):
            raise HTTPException(400, f"'format': expected json or html, got {wanted[:60]!r}")
        content = self.monitor.report()
        return HTMLResponse(page(content)) if wanted == "html" else JSONResponse(content)

    async def health(self, request: Request) -> Response:
        if not self.monitor.alive:
            raise HTTPException(500, "the watch has ended by a fault of ours: see the log, and start the sidecar again")
        return JSONResponse({"alive": True})

    async def ready(self, request: Request) -> Response:
        if self.monitor.draining:
            raise HTTPException(503, "the sidecar is stopping")
        return JSONResponse({"ready": True, "bundle": self.monitor.bundle})


def _preferred(accept: str) -> str:
    """JSON unless the caller asks for HTML before it, as browsers do."""
    html, json = accept.find("text/html"), accept.find("application/json")
    return "html" if html >= 0 and (json < 0 or html < json) else "json"


def _route(path: str, endpoint: Endpoint, method: str) -> Route:
    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException:
            raise
        except (RequestError, Busy) as error:
            status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
            return _error(status, str(error))
        except ClientDisconnect:
            return _error(499, "the caller has left")
        except Exception as error:
            log_fault(error)
            return _error(500, "a fault of ours, not of the request: see the log")

    return Route(path, answered, methods=[method], name=f"{method} {path}")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = error.detail if error.detail != HTTPStatus(error.status_code).phrase else error.detail.lower()
    return _error(error.status_code, f"{request.method} {request.url.path[:100]}: {known}")


def _error(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)


async def _body(request: Request) -> bytes:
    """Read the body, and stop as soon as it is known to be too large."""
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise HTTPException(415, f"the body: expected no content-encoding, got {encoding[:60]!r}")
    declared, parts, arrived = request.headers.get("content-length", ""), [], 0
    if declared.isdecimal() and int(declared) > MOST_BYTES:
        raise RequestTooLarge(f"the body: expected at most {MOST_BYTES} bytes, got {declared}")
    async for part in request.stream():
        arrived += len(part)
        if arrived > MOST_BYTES:
            raise RequestTooLarge(f"the body: expected at most {MOST_BYTES} bytes, got {arrived} and more")
        parts.append(part)
    return b"".join(parts)
