"""A service before its first bundle: alive, not ready, and saying for what it waits.

The cluster replaces the process when a bundle is named, so nothing here looks for one.
"""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

WAIT = "where the directory holds no bundle yet: live and be not ready, in place of an end"
"""Help of the option `--wait`."""
ALIVE = ("/v2/health/live", "/healthz")
"""What the liveness probes of our services ask."""
SENTENCE = "no bundle is named yet, so there is nothing to serve: 'make deploy' or 'offers deploy' names one"
_METRICS = (
    b"# HELP offers_waiting Always 1: waits for its first bundle.\n# TYPE offers_waiting gauge\noffers_waiting 1\n"
)


def wait_for_bundle(bundle: Path, host: str, port: int) -> None:
    """Come back at once where there is a bundle; else answer probes until the process is ended."""
    if bundle.is_dir() and any(bundle.iterdir()):
        return
    signal.signal(signal.SIGTERM, _end)
    with ThreadingHTTPServer((host, port), _Waiting) as server:
        print(json.dumps({"level": "INFO", "event": "waiting", "message": f"{bundle}: {SENTENCE}"}), flush=True)
        server.serve_forever()


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


class _Waiting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path in ALIVE:
            self._answer(200, b'{"live": true}')
        elif self.path == "/metrics":
            self._answer(200, _METRICS, "text/plain; version=0.0.4")
        else:
            self._answer(503, json.dumps({"error": SENTENCE}).encode())

    do_POST = do_GET

    def _answer(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...
