"""A small AWS STS on loopback: it answers AssumeRoleWithWebIdentity with keys that it numbers."""

import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qsl

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


class StsDouble:
    """`lasts` is how many seconds new keys are good for; `answer` takes the place of keys, as a status and a body.

    `asked` are the forms that arrived, `paths` the addresses that they were sent to.
    """

    def __init__(self) -> None:
        self.lasts = 3600.0
        self.answer: tuple[int, str] | None = None
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def refuse(self, status: int, code: str, message: str) -> None:
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        self.answer = status, f'<ErrorResponse xmlns="{NAMESPACE}">{error}</ErrorResponse>'

    def keys(self) -> str:
        """What AWS answers: the n-th keys are `key-n`, `secret-n` and `session-n`."""
        number, until = len(self.asked), datetime.now(UTC) + timedelta(seconds=self.lasts)
        return (
            f'<AssumeRoleWithWebIdentityResponse xmlns="{NAMESPACE}"><AssumeRoleWithWebIdentityResult><Credentials>'
            f"<SessionToken>session-{number}</SessionToken><SecretAccessKey>secret-{number}</SecretAccessKey>"
            f"<Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration><AccessKeyId>key-{number}</AccessKeyId>"
            "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )


def _handler(double: StsDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            double.paths.append(self.path)
            double.asked.append(dict(parse_qsl(body)))
            status, content = double.answer or (200, double.keys())
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: object) -> None: ...

    return Handler
