"""A small HTTP server of one file, on loopback."""

from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Event

from tests.support import loopback
from tests.support.loopback import Loopback
from tests.support.services import DEADLINE
from tests.support.small import LARGE


@dataclass
class FileServer(Loopback):
    """One file on loopback, with the faults that files over http have.

    `cut` ends the answer after that many bytes; `stall` holds it there until `go_on`; `ranges`, `shifted` and `at_most`
    spoil what it answers to Range; `seen` are the headers of all requests.
    """

    content: bytes = LARGE
    etag: str = '"one"'
    date: str = ""
    status: int = 200
    ranges: bool = True
    shifted: int = 0
    at_most: int | None = None
    cut: int | None = None
    stall: int | None = None
    sized: bool = True
    seen: list[dict[str, str]] = field(default_factory=list)
    stalled: Event = field(default_factory=Event)
    go_on: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        super().__init__(_Handler.of(self))

    def __exit__(self, *details: object) -> None:
        self.go_on.set()
        super().__exit__(*details)

    @property
    def url(self) -> str:
        return f"{super().url}/small.csv"

    @property
    def asked(self) -> list[str]:
        return [headers.get("Range", "all") for headers in self.seen]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append(dict(handler.headers.items()))
        body, status, headers = self._ranged(handler.headers.get("Range"), handler.headers.get("If-Range"))
        if self.status != 200:
            body, status = b"Sorry", self.status
        if self.sized:
            headers["Content-Length"] = str(len(body))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[: self.cut if self.stall is None else self.stall])
        if self.stall is not None:
            sent = self.stall
            self.stalled.set()
            self.go_on.wait(DEADLINE)
            handler.wfile.write(body[sent:])

    def _ranged(self, asked: str | None, condition: str | None) -> tuple[bytes, int, dict[str, str]]:
        headers = {name: value for name, value in (("ETag", self.etag), ("Last-Modified", self.date)) if value}
        same = condition in (None, self.etag, self.date)
        if not (asked and self.ranges and same):
            return self.content, 200, headers
        start = int(asked.removeprefix("bytes=").removesuffix("-")) + self.shifted
        if start >= len(self.content):
            return b"", 416, headers
        body = self.content[start:][: self.at_most]
        headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(self.content)}"
        return body, 206, headers


class _Handler(loopback.Handler):
    double: FileServer

    def do_GET(self) -> None:
        try:
            self.double.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
