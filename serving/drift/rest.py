"""The sidecar over HTTP: events in; report, metrics and health out."""

import asyncio

from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from offers.errors import RequestError
from serving.drift.events import WrongBundle
from serving.drift.metrics import Figures
from serving.drift.monitor import Busy, Monitor
from serving.drift.page import page
from serving.process.edge import KINDS, Bodies, Edge, Endpoint, Kinds, metrics
from serving.process.edge import application as build
from serving.process.telemetry import LATENCY, REQUESTS

_KINDS: Kinds = {WrongBundle: 409, Busy: 503, **KINDS}


def application(monitor: Monitor) -> Edge:
    """Build the application that answers for a monitor."""
    watch, registry = _Endpoints(monitor), CollectorRegistry()
    for collector in (Figures(monitor), REQUESTS, LATENCY):
        registry.register(collector)
    gets: dict[str, Endpoint] = {
        "/": watch.report,
        "/report": watch.report,
        "/metrics": metrics(registry),
        "/healthz": watch.health,
        "/readyz": watch.ready,
    }
    routes = {("POST", path): watch.take for path in ("/", "/events")}
    return build(routes | {("GET", path): endpoint for path, endpoint in gets.items()}, _KINDS)


class _Endpoints:
    def __init__(self, monitor: Monitor) -> None:
        self.monitor, self.bodies = monitor, Bodies()

    async def take(self, request: Request) -> Response:
        try:
            body = await self.bodies.read(request)
            # Beside the event loop, where a large batch holds up no health check.
            batch = await asyncio.to_thread(self.monitor.schema.read, dict(request.headers), body)
        except (RequestError, HTTPException):
            self.monitor.refused()
            raise
        return JSONResponse({"outcome": self.monitor.take(batch), "rows": len(batch.rows)}, 202)

    async def report(self, request: Request) -> Response:
        form = request.query_params.get("format") or _preferred(request.headers.get("accept", ""))
        if form not in ("json", "html"):
            raise HTTPException(400, f"'format': expected json or html, got {form[:60]!r}")
        content = self.monitor.report()
        return HTMLResponse(page(content)) if form == "html" else JSONResponse(content)

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
