"""HTTP/1.1 connections with limits: uvicorn's protocol over h11.

httptools, uvicorn's default, takes the body of a request that asks to upgrade for the next request, and knows no limit
for headers.
"""

import json
import re
from asyncio import TimerHandle, Transport
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_ONCE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"inference-header-content-length",
        b"offers-signature",
        b"origin",
        b"transfer-encoding",
        b"x-request-id",
    }
)
"""Headers that we read: of two, a proxy before us may have read the other one."""
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_DISCARD_SECONDS = 2.0


@dataclass(frozen=True)
class Limits:
    """What a connection may cost.

    Attributes
    ----------
    head_bytes, headers : in the head of a request
    target_bytes : in its address
    head_seconds : from the opening, or from the first byte of a later request, until the head is whole
    idle_seconds : between two requests
    connections : open at once; the one that has waited longest for its request makes room
    """

    head_bytes: int = 32 * 1024
    headers: int = 100
    target_bytes: int = 8 * 1024
    head_seconds: float = 10.0
    idle_seconds: float = 65.0
    connections: int = 2000


@dataclass
class Waiting:
    """Connections without a request under way: those that never had one, and those that wait for another."""

    fresh: dict["Connection", None] = field(default_factory=dict)
    idle: dict["Connection", None] = field(default_factory=dict)

    def remove(self, connection: "Connection") -> None:
        self.fresh.pop(connection, None)
        self.idle.pop(connection, None)

    def longest(self) -> "Connection | None":
        """The one to close first: a peer that has sent no request yet goes before one that has."""
        return next(iter(self.fresh or self.idle), None)


class Connection(H11Protocol):
    """One connection; `limits` and `waiting` are shared by all of a listener."""

    def __init__(self, limits: Limits, waiting: Waiting, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.limits, self.waiting = limits, waiting
        self.conn = _Parser(limits)
        self._deadline: TimerHandle | None = None
        self._discarding = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            longest = self.waiting.longest()
            if longest is None:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "as many connections as we take are busy: try again")
                return
            longest.abort()
        self.waiting.fresh[self] = None
        self._within(self.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting.remove(self)
        self._settle()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE:
            self.waiting.idle[self] = None
        elif self.cycle.response_complete:
            # The answer came before the body was there: nobody reads the rest, and none may send it for ever.
            self._discarding = True
            self._within(_DISCARD_SECONDS)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; a peer that does not even read its last answer is not waited for."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, in the form of every other error, and close."""
        fault = cast(_Parser, self.conn).fault
        status, sentence = (fault.error_status_hint, str(fault)) if fault else (HTTPStatus.BAD_REQUEST, msg)
        self._refuse(HTTPStatus(status), f"the request: {sentence}")

    def _unsupported_upgrade_warning(self) -> None:
        """Go on in HTTP/1.1 without a word, as every server may: asking is a caller's right."""

    def abort(self) -> None:
        """Close at once."""
        self.waiting.remove(self)
        self.connections.discard(self)
        self.transport.abort()

    def _follow(self) -> None:
        """Keep in mind whether a request is under way, and how long the head of the next may take."""
        if self.conn.their_state is not h11.IDLE:
            self.waiting.remove(self)
            if not (self._discarding and self.cycle.response_complete):
                self._discarding = False
                self._settle()
        elif self._discarding:
            self._discarding = False
            self._settle()
            super().on_response_complete()
            self.waiting.idle[self] = None
        elif self.timeout_keep_alive_task is None:
            self._within(self.limits.head_seconds)

    def _within(self, seconds: float) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(seconds, self._late)

    def _settle(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._discarding:
            self.transport.close()
        else:
            within = f"expected its head within {self.limits.head_seconds:g} s"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request: {within}, but it stopped short: send it again")

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Answer and close, unless an answer has begun already, which is then cut off."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"error": sentence}).encode()
            head = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
            start = h11.Response(status_code=status, headers=head, reason=status.phrase)
            for event in (start, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Parser(h11.Connection):
    """h11's, and what it lets through: too many headers, two of a kind, a length in two ways.

    It gives the head of an answer out with the first bytes of the body: one packet, and one system call.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(h11.SERVER, limits.head_bytes)
        self.limits = limits
        self.fault: h11.RemoteProtocolError | None = None
        self._head = b""

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        output = super().send(event)
        if type(event) is h11.Response:
            self._head = output or b""
            return b""
        if self._head:
            output, self._head = self._head + (output or b""), b""
        return output

    def next_event(self) -> Any:
        try:
            event = super().next_event()
            if type(event) is h11.Request:
                self._check(event)
        except h11.RemoteProtocolError as error:
            self.fault = error
            raise
        return event

    def _check(self, request: h11.Request) -> None:
        if request.http_version not in (b"1.0", b"1.1"):
            raise _error(505, f"expected version 1.1, got {request.http_version.decode()}")
        if len(request.target) > self.limits.target_bytes:
            raise _error(414, f"expected an address of at most {self.limits.target_bytes} bytes")
        singles, size, count = dict[bytes, bytes](), 0, 0
        for name, value in request.headers:
            if name in singles:
                raise _error(400, f"expected one header {name.decode()}, got two")
            if name in _ONCE:
                singles[name] = value
            size += len(name) + len(value) + 4
            count += 1
        if count > self.limits.headers:
            raise _error(431, f"expected at most {self.limits.headers} headers, got {count}")
        if size > self.limits.head_bytes:
            raise _error(431, f"expected at most {self.limits.head_bytes} bytes of headers")
        if b"transfer-encoding" in singles and (b"content-length" in singles or request.http_version < b"1.1"):
            raise _error(400, "expected a body's length by one header, got two that say it, or one of HTTP/1.1 in 1.0")
        if not _HOST.fullmatch(singles.get(b"host", b"")):
            raise _error(400, "expected a name and a port as header host")


def _error(status: int, sentence: str) -> h11.RemoteProtocolError:
    return h11.RemoteProtocolError(sentence, error_status_hint=status)
