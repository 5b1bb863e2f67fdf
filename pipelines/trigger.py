"""The service that alarms are sent to: takes CloudEvents, asks for retraining, and shows the journal."""

import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast, get_args

import anyio
import anyio.to_thread
import cloudevents.exceptions
from cloudevents.http import CloudEvent, from_http
from prometheus_client import CollectorRegistry, Counter, Gauge, exposition
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from offers.errors import OffersError, RequestError, ServiceError
from offers.retraining import alarm
from offers.retraining.journal import Action, Decision, Request
from offers.retraining.retrainer import Retrainer
from offers.wording import shown

BODY_LIMIT = 2**20

Chore = Callable[[], None]

_DECIDED_BY = ("bundle", "action", "signals", "reasons", "until")
"""What of an alarm is kept. The rest is the report of whole windows, which the bucket and the sidecar keep."""


def application(retrainer: Retrainer, chores: Sequence[tuple[float, Chore]] = ()) -> Starlette:
    """Build the service around a retrainer; it is not bound to a port yet.

    Parameters
    ----------
    chores : each called every so many seconds; what one can't do is told, and the service goes on
    """
    trigger = _Trigger(retrainer)

    @asynccontextmanager
    async def working(app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            for seconds, chore in chores:
                tasks.start_soon(_work, chore, seconds)
            yield
            tasks.cancel_scope.cancel()

    routes = [
        Route("/", trigger.event, methods=["POST"]),
        Route("/journal", trigger.journal),
        Route("/metrics", trigger.metrics),
        Route("/healthz", trigger.alive),
    ]
    return Starlette(
        routes=routes, lifespan=working, exception_handlers={HTTPException: _refused, OffersError: _mistake}
    )


def announce(decision: Decision) -> None:
    """Tell a decision in a line of the log."""
    begun = f"started {decision.run}" if decision.started else "no run"
    print(f"retraining: {decision.request.cause}: {begun}: {decision.reason}", file=sys.stderr, flush=True)


async def _work(chore: Chore, seconds: float) -> None:
    while True:
        try:
            await anyio.to_thread.run_sync(chore)
        except OffersError as error:
            print(f"retraining: {error}", file=sys.stderr, flush=True)
        await anyio.sleep(seconds)


class _Trigger:
    def __init__(self, retrainer: Retrainer) -> None:
        self.retrainer = retrainer
        self.registry = CollectorRegistry()
        self.decisions = Counter(
            "offers_retraining_decisions", "Requests for a new model", ["cause", "started"], registry=self.registry
        )
        self.last = Gauge(
            "offers_retraining_last_request_timestamp_seconds", "When one was last asked for", registry=self.registry
        )

    async def event(self, request: HttpRequest) -> Response:
        asked = request_of(_event(request.headers, await _body(request)), self.retrainer.journal.contract)
        decision: Decision = await anyio.to_thread.run_sync(self.retrainer.ask, asked)
        self.decisions.labels(asked.cause, str(decision.started).lower()).inc()
        self.last.set_to_current_time()
        return _json(decision, 202)

    async def journal(self, request: HttpRequest) -> Response:
        form = request.query_params.get("format", "text")
        if form not in ("text", "json"):
            raise HTTPException(400, f"format: expected text or json, got {form!r:.60}")
        if form == "text":
            lines = await anyio.to_thread.run_sync(self.retrainer.journal.lines)
            return PlainTextResponse("".join(f"{line}\n" for line in lines))
        entries = await anyio.to_thread.run_sync(self.retrainer.journal.entries)
        return JSONResponse({"entries": [entry.model_dump(mode="json") for entry in entries]})

    async def metrics(self, request: HttpRequest) -> Response:
        encoder, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(self.registry), headers={"content-type": content_type})

    async def alive(self, request: HttpRequest) -> Response:
        return JSONResponse({"status": "alive"})


def listener(host: str, port: int) -> socket.socket:
    """Bind an address; port 0 asks for a free one.

    Raises
    ------
    ServiceError
        the port is taken, or the host is not one of this machine
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServiceError(
            f"can't listen on port {port} of {host}: {reason}; name another, or 0 for a free one"
        ) from None


def request_of(event: CloudEvent, contract: str) -> Request:
    """Turn an alarm into a request for a new model of a contract.

    Raises
    ------
    RequestError
        the event is no alarm, or one about another contract's bundle
    """
    if event["type"] != alarm.TYPE:
        raise RequestError(f"the event's type: expected {alarm.TYPE!r}, got {shown(event['type'])}")
    if not isinstance(event.data, dict):
        raise RequestError(f"the event's data: expected an object, got {shown(event.data)}")
    bundle = event.data.get("bundle")
    if not isinstance(bundle, str) or not re.fullmatch(rf"{re.escape(contract)}-[0-9a-f]{{16}}", bundle):
        raise RequestError(f"the event's 'bundle': expected one of contract {contract!r}, got {shown(bundle)}")
    identity = f"{event['source']}#{event['id']}"
    if len(identity) > 200:
        raise RequestError(f"the event's source and id: expected at most 200 characters, got {len(identity)}")
    evidence = {key: event.data[key] for key in _DECIDED_BY if key in event.data}
    return Request(id=identity, contract=contract, cause="alarm", action=_action(event.data), evidence=evidence)


def _action(data: dict[str, Any]) -> Action:
    """What a verdict asks for, where the monitoring pipeline sent one; else two of the three signals decide."""
    actions = get_args(Action)
    if (action := data.get("action")) is not None:
        if action not in actions:
            raise RequestError(f"the event's 'action': expected one of {', '.join(actions)}, got {shown(action)}")
        return cast(Action, action)
    names, signals = ("data", "score", "performance"), data.get("signals")
    if not isinstance(signals, dict) or any(type(signals.get(name)) not in (bool, type(None)) for name in names):
        expected = f"expected true, false or null by {', '.join(names)}"
        raise RequestError(f"the event's 'signals': {expected}, got {signals!r:.60}")
    return "retrain" if sum(signals.get(name) is True for name in names) >= 2 else "none"


def _event(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    try:
        return from_http(dict(headers), body)
    except (cloudevents.exceptions.GenericException, ValueError) as error:
        raise RequestError(f"expected a CloudEvent in binary or structured mode, but {_first_line(error)}") from None


async def _body(request: HttpRequest) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise HTTPException(413, f"the body: expected at most {BODY_LIMIT} bytes, got {len(body)} and more")
    return bytes(body)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _json(record: Decision, status: int) -> Response:
    return Response(record.model_dump_json(), status, media_type="application/json")


async def _refused(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _mistake(request: HttpRequest, error: Exception) -> Response:
    status = 400 if isinstance(error, RequestError) else 503
    return JSONResponse({"error": str(error)}, status)
