"""What the stand-ins of other people's services have in common: an HTTP server on loopback, for a `with` block."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Handler(BaseHTTPRequestHandler):
    """Answers whole, and says nothing on the terminal. `double` is what it answers for."""

    double: Any

    @classmethod
    def of(cls, double: object) -> type[Self]:
        """The handler of one double."""
        return type(cls.__name__, (cls,), {"double": double})

    def send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_json(self, status: int, content: Any) -> None:
        self.send(status, "application/json", json.dumps(content).encode())

    def log_message(self, *_: object) -> None: ...


class _Server(ThreadingHTTPServer):
    # Five would make the ninth of many clients wait for a second.
    request_queue_size = 64


class Loopback:
    """A server that listens from the start, and answers within the block.

    Parameters
    ----------
    handler : of its requests
    patient : whether the end of the block waits for answers under way; a watch never ends
    """

    def __init__(self, handler: type[Handler], patient: bool = True) -> None:
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = not patient
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"
