"""A small AWS STS on loopback: it answers AssumeRoleWithWebIdentity with keys that it numbers."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

from tests.support import loopback
from tests.support.loopback import Loopback

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


class StsDouble(Loopback):
    """`lasts` is how many seconds new keys are good for; `answer` takes the place of keys, as a status and a body.

    `asked` are the forms that arrived, `paths` the addresses that they were sent to.
    """

    def __init__(self) -> None:
        self.lasts = 3600.0
        self.answer: tuple[int, str] | None = None
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []
        super().__init__(_Handler.of(self))

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


class _Handler(loopback.Handler):
    double: StsDouble

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.double.paths.append(self.path)
        self.double.asked.append(dict(parse_qsl(body)))
        status, content = self.double.answer or (200, self.double.keys())
        self.send(status, "text/xml", content.encode())
