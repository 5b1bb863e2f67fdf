"""A file to download over http or https."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from offers.data.download import Reply
from offers.errors import SourceError
from offers.http_client import Peer

PATIENCE = 20.0
"""Seconds until the server answers, and without a byte."""
PACE = 4 * 1024
"""Bytes a second that have to come on the whole, beside `PATIENCE`."""
UNSIZED_BYTES = 4 << 30
"""Of a file whose size the server does not say."""
REDIRECTS = 5

# At level INFO, which Kubeflow's executor shows, httpx logs each URL with its secrets.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True)
class HttpFile:
    """The file at `url`; `shown` is the URL without parts that may be secret.

    Files come from other networks than services do. So a download uses the environment's proxies, and follows up to
    `REDIRECTS` redirects, but none from https to http.
    """

    url: str
    shown: str

    @contextmanager
    def open(self, offset: int, version: str) -> Iterator[Reply]:
        with self._errors(), asyncio.Runner() as runner:
            client = Peer(httpx.URL(self.url), PATIENCE).client(proxies=True)
            try:
                response = runner.run(self._opened(client, offset, version))
                yield self._reply(response, _chunks(runner, response), offset)
            finally:
                runner.run(client.aclose())

    async def _opened(self, client: httpx.AsyncClient, offset: int, version: str) -> httpx.Response:
        async with asyncio.timeout(PATIENCE):
            response = await self._get(client, offset, version)
            if offset and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                await response.aclose()
                response = await self._get(client, 0, "")
            return response

    async def _get(self, client: httpx.AsyncClient, offset: int, version: str) -> httpx.Response:
        headers = {"Range": f"bytes={offset}-"} | ({"If-Range": version} if version else {}) if offset else {}
        request = client.build_request("GET", self.url, headers=headers)
        for _ in range(REDIRECTS + 1):
            response = await client.send(request, stream=True)
            if response.next_request is None:
                return response
            await response.aclose()
            if (request.url.scheme, response.next_request.url.scheme) == ("https", "http"):
                raise httpx.UnsupportedProtocol("it redirects from https to http")
            request = response.next_request
        raise httpx.TooManyRedirects(f"it redirects more than {REDIRECTS} times")

    def _reply(self, response: httpx.Response, chunks: Iterator[bytes], offset: int) -> Reply:
        total = response.headers.get("Content-Length", "")
        if offset and response.status_code == httpx.codes.PARTIAL_CONTENT:
            start, _, total = response.headers.get("Content-Range", "").partition("/")
            if not start.startswith(f"bytes {offset}-"):
                raise SourceError(f"{self.shown}: expected the bytes from {offset} on, the server sent {start!r}")
        elif response.status_code == httpx.codes.OK:
            offset = 0
        else:
            status = f"{response.status_code} {response.reason_phrase}"
            busy = response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS
            raise SourceError(f"{self.shown}: expected a file, the server answered HTTP {status}", passes=busy)
        size = int(total) if total.isdecimal() else None
        return Reply(chunks, offset, size, _version(response.headers))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        passes = True
        try:
            yield
        except (httpx.TimeoutException, TimeoutError):
            reason = f"given up after {PATIENCE:g} s without progress; run again to go on from there"
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            reason = f"the download was cut short ({error}); run again to go on from there"
        except httpx.ConnectError as error:
            reason = f"the server can't be reached ({_first(error)})"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason, passes = f"can't be downloaded ({error})", False
        else:
            return
        raise SourceError(f"{self.shown}: {reason}", passes) from None


def _chunks(runner: asyncio.Runner, response: httpx.Response) -> Iterator[bytes]:
    """Yield the bytes that come, no more than the server says and not slower than `PACE`."""
    parts, begun, n_bytes = response.aiter_raw(), time.monotonic(), 0
    while chunk := runner.run(_next(parts, begun + PATIENCE + n_bytes / PACE)):
        n_bytes += len(chunk)
        if n_bytes > UNSIZED_BYTES and "content-length" not in response.headers:
            raise httpx.DecodingError(f"it has more than {UNSIZED_BYTES} bytes, and the server does not say how many")
        yield chunk


async def _next(parts: AsyncIterator[bytes], deadline: float) -> bytes:
    async with asyncio.timeout(max(0.0, min(PATIENCE, deadline - time.monotonic()))):
        return await anext(parts, b"")


def _first(error: BaseException) -> str:
    """Go back to the system's error, which the libraries between wrap in less telling ones."""
    while cause := error.__cause__ or error.__context__:
        error = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
    # asyncio's own text has the address in place of the reason.
    return os.strerror(error.errno) if isinstance(error, ConnectionError) and error.errno else str(error)


def _version(headers: httpx.Headers) -> str:
    """Take the strong ETag as the version, else the date; a weak ETag does not promise the same bytes."""
    etag: str = headers.get("ETag", "")
    date: str = headers.get("Last-Modified", "")
    return etag if etag and not etag.startswith("W/") else date
