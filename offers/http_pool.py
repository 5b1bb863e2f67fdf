"""Blocking requests for the clients of S3 and Kubeflow, with the same bounds as `offers.http_client`."""

import io
import socket
import ssl
import time
from contextvars import ContextVar
from http.client import HTTPResponse as RawAnswer
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ProtocolError
from urllib3.response import BaseHTTPResponse, HTTPResponse

from offers.http_client import ANSWER_BYTES

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
"""Without a byte."""
ANSWER_SECONDS, PACE = 40.0, 64 * 1024
"""For an answer and all tries of it, and beside them a second for each so many bytes that have come."""
LISTING_BYTES = 16 * ANSWER_BYTES
"""Of an answer that is read whole, or that does not say its length."""

_begun: ContextVar[float] = ContextVar("begun")


class Pool(urllib3.PoolManager):
    """Connections that retry and give up within seconds; they use no proxy and follow no redirect.

    A slow answer is cut off after `ANSWER_SECONDS`, even if bytes keep arriving. An answer that is read whole may have
    `LISTING_BYTES` bytes; an answer that the caller streams may have as many as it announced.
    """

    def __init__(self, secure: bool = False) -> None:
        super().__init__(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=urllib3.Retry(
                total=2, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), raise_on_status=False
            ),
            ssl_context=_context() if secure else None,
        )
        self.pool_classes_by_scheme = {"http": _Plain, "https": _Secure}

    def urlopen(self, method: str, url: str, redirect: bool = False, **kw: Any) -> BaseHTTPResponse:  # type: ignore[override]
        whole = kw.pop("preload_content", True)
        if kw.get("timeout") is None:
            # Kubeflow's client passes None, which would mean to wait forever.
            kw.pop("timeout", None)
        token = _begun.set(time.monotonic())
        try:
            answer = super().urlopen(method, url, redirect=False, preload_content=False, **kw)
            return _read(answer, method, url) if whole else answer
        finally:
            _begun.reset(token)


def _context() -> ssl.SSLContext:
    # Imported here because plain HTTP does not need it.
    from httpx import create_ssl_context

    return create_ssl_context()


def _read(answer: BaseHTTPResponse, method: str, url: str) -> HTTPResponse:
    with answer:
        content = answer.read(LISTING_BYTES + 1)
    if len(content) > LISTING_BYTES:
        raise ProtocolError(f"its answer has more than {LISTING_BYTES} bytes")
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-encoding"}
    return HTTPResponse(
        io.BytesIO(content),
        headers,
        answer.status,
        reason=answer.reason,
        enforce_content_length=False,
        request_method=method,
        request_url=url,
    )


class _Answer(RawAnswer):
    """Reads until the deadline, and at most the announced length, or the limit for answers without one."""

    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        source = _Source(sock, _begun.get(time.monotonic()))
        super().__init__(source, *arguments, **named)  # type: ignore[arg-type]
        self._source = source

    def begin(self) -> None:
        super().begin()
        if self.length is not None:
            self._source.most += self.length


class _Source(io.RawIOBase):
    """The bytes of a connection, in the form of a socket's file for the standard library's HTTP client."""

    def __init__(self, sock: socket.socket, begun: float) -> None:
        self._sock, self._begun, self._bytes, self.most = sock, begun, 0, LISTING_BYTES
        self._raw = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        self._raw.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self._begun + ANSWER_SECONDS + self._bytes / PACE - time.monotonic()
        if seconds <= 0:
            raise TimeoutError(f"no whole answer within {ANSWER_SECONDS:g} s")
        if self._bytes > self.most:
            raise OSError(f"its answer has more than {self.most} bytes")
        self._sock.settimeout(min(seconds, READ_SECONDS))
        n_bytes = self._raw.readinto(buffer) or 0
        self._bytes += n_bytes
        return n_bytes


class _PlainConnection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Plain(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _Secure(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
