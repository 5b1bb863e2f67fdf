"""The service that alarms are sent to: takes CloudEvents, asks for retraining, and shows the journal."""

from collections.abc import Mapping

import anyio.to_thread
import cloudevents.exceptions
from cloudevents.http import CloudEvent, from_http
from prometheus_client import CollectorRegistry, Counter, Gauge, exposition
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offers.errors import OffersError, RequestError
from offers.journal import Decision, Request
from offers.requests import shown
from offers.retraining import Retrainer

ALARM = "offers.drift.alarm"
BODY_LIMIT = 2**20


def application(retrainer: Retrainer) -> Starlette:
    """Build the service around a retrainer; it is not bound to a port yet."""
    trigger = _Trigger(retrainer)
    routes = [
        Route("/", trigger.event, methods=["POST"]),
        Route("/journal", trigger.journal),
        Route("/metrics", trigger.metrics),
        Route("/healthz", trigger.alive),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _refused, OffersError: _mistake})


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
        entries = await anyio.to_thread.run_sync(self.retrainer.journal.entries)
        return JSONResponse({"entries": [entry.model_dump(mode="json") for entry in entries]})

    async def metrics(self, request: HttpRequest) -> Response:
        encoder, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(self.registry), headers={"content-type": content_type})

    async def alive(self, request: HttpRequest) -> Response:
        return JSONResponse({"status": "alive"})


def request_of(event: CloudEvent, contract: str) -> Request:
    """Turn an alarm into a request for a new model of a contract.

    Raises
    ------
    RequestError
        the event is no alarm, or one about another contract's bundle
    """
    if event["type"] != ALARM:
        raise RequestError(f"the event's type: expected {ALARM!r}, got {shown(event['type'])}")
    if not isinstance(event.data, dict):
        raise RequestError(f"the event's data: expected an object, got {shown(event.data)}")
    bundle = event.data.get("bundle")
    if not isinstance(bundle, str) or not bundle.startswith(f"{contract}-"):
        raise RequestError(f"the event's 'bundle': expected one of contract {contract!r}, got {shown(bundle)}")
    identity = f"{event['source']}#{event['id']}"
    if len(identity) > 200:
        raise RequestError(f"the event's source and id: expected at most 200 characters, got {len(identity)}")
    return Request(id=identity, contract=contract, cause="alarm", evidence=event.data)


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
