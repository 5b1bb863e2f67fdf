"""The service that receives alarms as CloudEvents, asks for retraining, and shows the journal."""

import asyncio
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from offers.errors import OffersError, RequestError
from offers.governance.entries import Action, Cause
from offers.retraining import alarm
from offers.retraining.journal import UPDATES, Decision, Request
from offers.retraining.retrainer import Retrainer
from offers.retraining.signature import HEADER, refusal
from offers.wording import shown
from serving.process.cloud_events import Event, read_event
from serving.process.edge import KINDS, Bodies, Edge, metrics
from serving.process.edge import application as build
from serving.process.listening import HttpServer
from serving.process.telemetry import LATENCY, REQUESTS

BODY_LIMIT = 256 * 1024

Chore = Callable[[], None]

IMAGE = "offers.image.published"
"""Type of the event that tells of a new image of the pipelines' steps; its data has the `image`."""

_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._/:@-]{0,510}")
_DECIDED_BY = ("bundle", "action", "signals", "reasons", "until")
"""What of an alarm is kept. The rest is the report of whole windows, which the bucket and the sidecar keep."""

Served = Callable[[], str]
"""Names the bundle that is served, an empty text where nobody knows; raises OffersError if it can't be asked now."""


@dataclass(frozen=True)
class Authority:
    """Decides which alarms count.

    Attributes
    ----------
    key : key that must sign alarms; if empty, whoever reaches the service may send one
    served : returns the name of the bundle that an alarm must be about; while nobody knows it, no alarm can name the
        parent of an update
    """

    key: bytes = b""
    served: Served = lambda: ""

    def check_signature(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise HTTPException with status 401 for a body that the key did not sign, 403 for one from a web page."""
        if "origin" in headers:
            raise HTTPException(403, "alarms come from services, not from a browser's page: leave header origin out")
        if self.key and (reason := refusal(self.key, body, headers.get(HEADER, ""))):
            raise HTTPException(401, reason)
        if self.key and any(name.startswith("ce-") for name in headers):
            raise HTTPException(401, "a signed alarm comes in structured mode: the signature is of its body alone")

    def check_bundle(self, request: Request) -> None:
        """Raise HTTPException with status 409 for an alarm about a bundle that is not served."""
        name, bundle = self.served(), request.evidence["bundle"]
        if name and bundle != name:
            raise HTTPException(409, f"the event's 'bundle': expected {name}, which is served, got {shown(bundle)}")
        if not name and request.action in UPDATES:
            advice = "promote its release by 'offers model promote', or ask for a retraining"
            raise HTTPException(409, f"the event's 'bundle': nobody knows whether {bundle} is served: {advice}")

    def about_served(self, request: Request) -> Request:
        """Add the bundle that is served to the evidence; raise HTTPException with status 409 where none is known."""
        if not (name := self.served()):
            raise HTTPException(409, "no release serves, so there is nothing to compare a new image's model with")
        return request.model_copy(update={"evidence": request.evidence | {"bundle": name}})


def application(retrainer: Retrainer, authority: Authority | None = None) -> Edge:
    """Build the service around a retrainer, without binding a port."""
    trigger = _Trigger(retrainer, authority or Authority())
    routes = {
        ("POST", "/"): trigger.event,
        ("GET", "/journal"): trigger.journal,
        ("GET", "/metrics"): metrics(trigger.registry),
        ("GET", "/healthz"): trigger.alive,
    }
    return build(routes, {**KINDS, OffersError: 503})


def announce(decision: Decision) -> None:
    """Report a decision in a line of the log."""
    start = f"started {decision.run}" if decision.started else "no run"
    print(f"retraining: {decision.request.cause}: {start}: {decision.reason}", file=sys.stderr, flush=True)


def run(edge: Edge, listener: socket.socket, chores: Sequence[tuple[float, Chore]] = ()) -> None:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    chores : functions with the seconds between their calls; an error in one is logged, and the service goes on
    """
    asyncio.run(_until_signalled(edge, listener, chores))


async def _until_signalled(edge: Edge, listener: socket.socket, chores: Sequence[tuple[float, Chore]]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = HttpServer(edge)
    server.start(listener)
    working = [asyncio.create_task(_work(chore, seconds)) for seconds, chore in chores]
    await stop.wait()
    for task in working:
        task.cancel()
    await server.stop()


async def _work(chore: Chore, seconds: float) -> None:
    while True:
        try:
            await asyncio.to_thread(chore)
        except OffersError as error:
            print(f"retraining: {error}", file=sys.stderr, flush=True)
        await asyncio.sleep(seconds)


class _Trigger:
    def __init__(self, retrainer: Retrainer, authority: Authority) -> None:
        self.retrainer, self.authority = retrainer, authority
        self.bodies = Bodies(BODY_LIMIT)
        self.registry = CollectorRegistry()
        self.decisions = Counter(
            "offers_retraining_decisions", "Requests for a new model", ["cause", "started"], registry=self.registry
        )
        # From the start, so that no panel looks broken as long as nobody has asked.
        for cause, started in product(get_args(Cause), ("true", "false")):
            self.decisions.labels(cause, started)
        self.last = Gauge(
            "offers_retraining_last_request_timestamp_seconds", "When one was last asked for", registry=self.registry
        )
        for collector in (REQUESTS, LATENCY):
            self.registry.register(collector)

    async def event(self, request: HttpRequest) -> Response:
        headers, body = dict(request.headers), await self.bodies.read(request)
        self.authority.check_signature(headers, body)
        event, contract = read_event(headers, body), self.retrainer.journal.contract
        wish = comparison_of(event, contract) if event.type == IMAGE else request_of(event, contract)
        decision = await asyncio.to_thread(self._decided, wish)
        self.decisions.labels(wish.cause, str(decision.started).lower()).inc()
        self.last.set_to_current_time()
        return Response(decision.model_dump_json(), 202, media_type="application/json")

    def _decided(self, request: Request) -> Decision:
        if request.cause == "new image":
            return self.retrainer.ask(self.authority.about_served(request))
        self.authority.check_bundle(request)
        return self.retrainer.ask(request)

    async def journal(self, request: HttpRequest) -> Response:
        form = request.query_params.get("format", "text")
        if form not in ("text", "json"):
            raise HTTPException(400, f"format: expected text or json, got {form!r:.60}")
        if form == "text":
            lines = await asyncio.to_thread(self.retrainer.journal.lines)
            return PlainTextResponse("".join(f"{line}\n" for line in lines))
        entries = await asyncio.to_thread(self.retrainer.journal.entries)
        return JSONResponse({"entries": [entry.model_dump(mode="json") for entry in entries]})

    async def alive(self, request: HttpRequest) -> Response:
        return JSONResponse({"status": "alive"})


def comparison_of(event: Event, contract: str) -> Request:
    """Turn the news of an image into a request to compare what it trains with the model that serves.

    Raises
    ------
    RequestError
        the event names no image
    """
    image = event.data.get("image") if isinstance(event.data, dict) else None
    if not isinstance(image, str) or not _IMAGE.fullmatch(image):
        raise RequestError(f"the event's 'image': expected a name such as registry/name:tag, got {shown(image)}")
    evidence = {"image": image, "reasons": [image]}
    return Request(id=f"image-{image}"[:200], contract=contract, cause="new image", evidence=evidence)


def request_of(event: Event, contract: str) -> Request:
    """Turn an alarm into a request for a new model of a contract.

    Raises
    ------
    RequestError
        the event is not an alarm, or is about another contract's bundle
    """
    if event.type != alarm.TYPE:
        raise RequestError(f"the event's type: expected {alarm.TYPE!r} or {IMAGE!r}, got {shown(event.type)}")
    if not isinstance(event.data, dict):
        raise RequestError(f"the event's data: expected an object, got {shown(event.data)}")
    bundle = event.data.get("bundle")
    if not isinstance(bundle, str) or not re.fullmatch(rf"{re.escape(contract)}-[0-9a-f]{{16}}", bundle):
        raise RequestError(f"the event's 'bundle': expected one of contract {contract!r}, got {shown(bundle)}")
    identity = f"{event.source}#{event.id}"
    if len(identity) > 200:
        raise RequestError(f"the event's source and id: expected at most 200 characters, got {len(identity)}")
    evidence = {key: event.data[key] for key in _DECIDED_BY if key in event.data}
    return Request(id=identity, contract=contract, cause="alarm", action=_action(event.data), evidence=evidence)


def _action(data: dict[str, Any]) -> Action:
    """Find the action that an alarm asks for: that of its verdict, if it has one, else by two of the three signals."""
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
