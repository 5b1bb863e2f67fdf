"""A small S3 server on loopback: enough of the wire format for the minio client; signatures are not checked."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from pydantic import SecretStr

from offers.settings import S3Settings
from tests.support import loopback
from tests.support.loopback import Loopback

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
Refusal = tuple[int, str]


@dataclass(frozen=True)
class Request:
    """What the server saw: method, bucket, key and headers."""

    method: str
    bucket: str
    key: str
    headers: dict[str, str]


class S3Double(Loopback):
    """Buckets as dicts of key to bytes.

    `refuse(request)` may answer with (status, code) in place of the object; a PUT of which `lose_answer(request)` is
    true is kept, and answered as if it were not; `page` is the length of one page of a listing; `short` cuts that many
    bytes off the end of each object sent.
    """

    def __init__(self, *buckets: str) -> None:
        self.buckets: dict[str, dict[str, bytes]] = {name: {} for name in buckets}
        self.requests: list[Request] = []
        self.metadata: dict[tuple[str, str], dict[str, str]] = {}
        self.writing = threading.Lock()
        self.refuse: Callable[[Request], Refusal | None] = lambda request: None
        self.lose_answer: Callable[[Request], bool] = lambda request: False
        self.page = 1000
        self.short = 0
        super().__init__(_Handler.of(self))

    @property
    def settings(self) -> S3Settings:
        return S3Settings(endpoint=self.address, access_key="me", secret_key=SecretStr("mine"), region="", secure=False)

    def seen(self, method: str) -> list[str]:
        """Keys of the requests with this method, in order."""
        return [request.key for request in self.requests if request.method == method and request.key]


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _metadata(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.lower().startswith("x-amz-meta-")}


class _Handler(loopback.Handler):
    double: S3Double

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.close_connection = True

    def do_GET(self) -> None:
        request, query = self._request()
        if self._refused(request):
            return
        if "location" in query:
            self._answer(200, f"<LocationConstraint {NAMESPACE}/>".encode())
        elif request.key:
            self._object(self.double.buckets[request.bucket], request)
        else:
            self._answer(200, _listing(self.double, request.bucket, query))

    def do_HEAD(self) -> None:
        request, _ = self._request()
        if not self._refused(request):
            self._object(self.double.buckets[request.bucket], request)

    def do_PUT(self) -> None:
        request, _ = self._request()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refused(request):
            return
        with self.double.writing:
            taken = self.headers.get("If-None-Match") == "*" and request.key in self.double.buckets[request.bucket]
            if not taken:
                self.double.buckets[request.bucket][request.key] = content
                self.double.metadata[request.bucket, request.key] = _metadata(request)
        if taken or self.double.lose_answer(request):
            self._error(*((412, "PreconditionFailed") if taken else (503, "SlowDown")))
        else:
            self._answer(200, b"", {"ETag": etag(content)})

    def _request(self) -> tuple[Request, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
        request = Request(self.command, bucket, key, dict(self.headers.items()))
        self.double.requests.append(request)
        return request, parse_qs(parts.query, keep_blank_values=True)

    def _refused(self, request: Request) -> bool:
        refusal = self.double.refuse(request)
        if not refusal and request.bucket not in self.double.buckets:
            refusal = (404, "NoSuchBucket")
        if refusal:
            self._error(*refusal)
        return bool(refusal)

    def _object(self, bucket: dict[str, bytes], request: Request) -> None:
        if request.key not in bucket:
            self._error(404, "NoSuchKey")
            return
        content = bucket[request.key]
        if self.headers.get("If-Match", etag(content)) != etag(content):
            self._error(412, "PreconditionFailed")
            return
        headers = self.double.metadata.get((request.bucket, request.key), {})
        headers = headers | {"ETag": etag(content), "Last-Modified": "Mon, 05 May 2008 08:00:00 GMT"}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start >= len(content) > 0:
            self._error(416, "InvalidRange")
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206 if start else 200, content[start:], headers, cut=self.double.short)

    def _error(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>because {code}</Message></Error>"
        self._answer(status, b"" if self.command == "HEAD" else body.encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int = 0) -> None:
        self.send_response(status)
        content = {"Content-Type": "application/xml", "Content-Length": str(len(body))}
        for name, value in (content | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._write(body[: len(body) - cut])

    def _write(self, body: bytes) -> None:
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def _listing(double: S3Double, bucket: str, query: dict[str, list[str]]) -> bytes:
    after = query.get("continuation-token", [""])[0]
    keys = [key for key in sorted(double.buckets[bucket]) if key.startswith(query["prefix"][0]) and key > after]
    page, more = keys[: double.page], len(keys) > double.page
    entries = "".join(_entry(key, double.buckets[bucket][key]) for key in page)
    token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult {NAMESPACE}><Name>{bucket}</Name><EncodingType>url</EncodingType>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
    ).encode()


def _entry(key: str, content: bytes) -> str:
    return (
        f"<Contents><Key>{quote(key)}</Key><LastModified>2008-05-05T08:00:00.000Z</LastModified>"
        f"<ETag>{escape(etag(content))}</ETag><Size>{len(content)}</Size></Contents>"
    )
