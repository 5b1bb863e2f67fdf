"""A file to download over http or https."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import httpx

from offers.data.download import Reply
from offers.errors import SourceError

PATIENCE = 20.0

# At level INFO, which Kubeflow's executor shows, httpx logs each URL with its secrets.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True)
class HttpFile:
    """The file at `url`; `shown` is the URL without parts that may be secret."""

    url: str
    shown: str

    @contextmanager
    def open(self, offset: int, version: str) -> Iterator[Reply]:
        with self._errors(), httpx.Client(timeout=PATIENCE, follow_redirects=True) as client:
            response = self._get(client, offset, version)
            if offset and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                response.close()
                response = self._get(client, 0, "")
            with closing(response):
                yield self._reply(response, offset)

    def _get(self, client: httpx.Client, offset: int, version: str) -> httpx.Response:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-"} | ({"If-Range": version} if version else {})
        return client.send(client.build_request("GET", self.url, headers=headers), stream=True)

    def _reply(self, response: httpx.Response, offset: int) -> Reply:
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
        return Reply(response.iter_raw(), offset, size, _version(response.headers))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        passes = True
        try:
            yield
        except httpx.TimeoutException:
            reason = f"given up after {PATIENCE:g} s without progress; run again to go on from there"
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            reason = f"the download was cut short ({error}); run again to go on from there"
        except httpx.ConnectError as error:
            reason = f"the server can't be reached ({error})"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason, passes = f"can't be downloaded ({error})", False
        else:
            return
        raise SourceError(f"{self.shown}: {reason}", passes) from None


def _version(headers: httpx.Headers) -> str:
    """Take the strong ETag as the version, else the date; a weak ETag does not promise the same bytes."""
    etag: str = headers.get("ETag", "")
    date: str = headers.get("Last-Modified", "")
    return etag if etag and not etag.startswith("W/") else date
