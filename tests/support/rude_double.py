"""A server on loopback that answers as no server should: drop by drop, without end, or with another address."""

import contextlib
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any, Literal

from tests.support import loopback
from tests.support.loopback import Loopback

Manner = Literal["drips", "drips its head", "never ends", "says a length and never ends", "redirects"]
MANNERS: tuple[Manner, ...] = ("drips", "drips its head", "never ends", "says a length and never ends", "redirects")
DROP_SECONDS = 0.02
PIECE = 1 << 16


class RudeDouble(Loopback):
    """Answers every request in one manner until its caller goes; `elsewhere` counts those that followed a redirect."""

    def __init__(self, manner: Manner) -> None:
        self.manner, self.ended, self.elsewhere = manner, Event(), 0
        super().__init__(_handler(self), patient=False)

    def __exit__(self, *details: object) -> None:
        self.ended.set()
        super().__exit__(*details)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/elsewhere":
            self.elsewhere += 1
        length = int(handler.headers.get("content-length", 0))
        handler.rfile.read(length)
        write = handler.wfile.write
        if self.manner == "redirects" or handler.path == "/elsewhere":
            write(b"HTTP/1.1 307 Go\r\nlocation: %s/elsewhere\r\ncontent-length: 0\r\n\r\n" % self.url.encode())
        elif self.manner == "drips":
            write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
            self._drip(write)
        elif self.manner == "drips its head":
            write(b"HTTP/1.1 200 OK\r\nx-drops: ")
            self._drip(write)
        elif self.manner == "never ends":
            write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            while not self.ended.is_set():
                write(b"%x\r\n%s\r\n" % (PIECE, b"x" * PIECE))
        else:
            write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % 10**15)
            while not self.ended.is_set():
                write(b"x" * PIECE)

    def _drip(self, write: Any) -> None:
        while not self.ended.wait(DROP_SECONDS):
            write(b"x")


def _handler(double: RudeDouble) -> type[loopback.Handler]:
    class Handler(loopback.Handler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                double.answer(self)
            self.close_connection = True

        do_POST = do_PUT = do_GET

    return Handler
