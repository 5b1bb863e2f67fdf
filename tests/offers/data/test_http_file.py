"""What HTTP servers do, and do wrong."""

import ssl
from pathlib import Path
from socket import socket

import pytest

from offers.data import http_file
from offers.data.sources import fetch
from offers.errors import SourceError
from offers.settings import Settings
from tests.support.certificates import Authority
from tests.support.http_double import FileServer
from tests.support.loopback import Handler, Loopback
from tests.support.small import LARGE, SMALL, contract, files, sha256


@pytest.mark.parametrize(
    ("etag", "date", "condition"),
    [
        ('W/"one"', "Mon, 05 May 2008 08:00:00 GMT", "Mon, 05 May 2008 08:00:00 GMT"),
        ('"one"', "Mon, 05 May 2008 08:00:00 GMT", '"one"'),
        ("", "", None),
    ],
)
def test_what_tells_versions_apart(
    server: FileServer, settings: Settings, etag: str, date: str, condition: str | None
) -> None:
    own = contract(uri=server.url, sha256=sha256(LARGE))
    server.etag, server.date, server.cut = etag, date, 100_000
    with pytest.raises(SourceError):
        fetch(own, settings)
    server.cut = None
    fetch(own, settings)
    assert server.asked == ["all", "bytes=100000-"]
    assert server.seen[1].get("If-Range") == condition


def test_a_server_without_ranges_starts_over(server: FileServer, settings: Settings) -> None:
    server.cut, server.ranges = 100_000, False
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut = None
    assert fetch(contract(), settings, server.url).read_bytes() == LARGE


def test_a_file_that_shrank_starts_over(server: FileServer, settings: Settings) -> None:
    own = contract(uri=server.url, sha256=sha256(SMALL))
    server.etag, server.cut = "", 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(own, settings)
    server.cut, server.content = None, SMALL
    assert fetch(own, settings).read_bytes() == SMALL
    assert server.asked == ["all", "bytes=100000-", "all"]


def test_a_server_that_sends_another_range(server: FileServer, settings: Settings) -> None:
    server.cut = 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut, server.shifted = None, 1
    with pytest.raises(SourceError, match="expected the bytes from 100000 on, the server sent 'bytes 100001-"):
        fetch(contract(), settings, server.url)


def test_a_stalled_download_is_given_up(
    server: FileServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_file, "PATIENCE", 0.2)
    own = contract(uri=server.url, sha256=sha256(LARGE), hint="ask the bank")
    server.stall = 100_000
    remedy = r"ask the bank; set OFFERS_DATA_DIR to the directory that holds small\.csv, or use --source simulated$"
    with pytest.raises(SourceError, match=rf"given up after 0\.2 s without progress; run again .*; {remedy}"):
        fetch(own, settings)
    server.stall = None
    server.go_on.set()
    assert fetch(own, settings).read_bytes() == LARGE
    assert server.asked == ["all", "bytes=100000-"]


@pytest.mark.parametrize(
    ("status", "text"), [(404, "404 Not Found"), (500, "500 Internal Server Error"), (204, "204 ")]
)
def test_what_the_server_answers(server: FileServer, settings: Settings, status: int, text: str) -> None:
    server.status = status
    with pytest.raises(SourceError, match=f"{server.url}: expected a file, the server answered HTTP {text}"):
        fetch(contract(), settings, server.url)
    assert files(settings.home) == {}


def test_a_server_where_nobody_listens(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/small.csv"
        with pytest.raises(
            SourceError, match=rf"^{url}: the server can't be reached \(.*refused\); else save the file"
        ):
            fetch(contract(), settings, url)


@pytest.mark.parametrize("url", ["http://", "http://[::1/small.csv", "http://ba nk/\x00"])
def test_a_url_that_is_none(settings: Settings, url: str) -> None:
    with pytest.raises(SourceError, match=r"can't be downloaded"):
        fetch(contract(), settings, url)


class Elsewhere(Loopback):
    """Sends whoever asks to another address, over TLS if it has a certificate."""

    def __init__(self, location: str, certificate: tuple[Path, Path] | None = None) -> None:
        self.location = location
        super().__init__(_Elsewhere.of(self))
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)


class _Elsewhere(Handler):
    double: Elsewhere

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("location", self.double.location)
        self.send_header("content-length", "0")
        self.end_headers()


def test_a_redirect_is_followed_with_the_range(server: FileServer, settings: Settings) -> None:
    with Elsewhere(server.url) as elsewhere:
        own = contract(uri=elsewhere.url, sha256=sha256(LARGE))
        server.cut = 100_000
        with pytest.raises(SourceError, match="cut short"):
            fetch(own, settings)
        server.cut = None
        assert fetch(own, settings).read_bytes() == LARGE
    assert server.asked == ["all", "bytes=100000-"]


def test_a_redirect_from_https_to_http_is_not_followed(
    server: FileServer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with Elsewhere(server.url, authority.certificate()) as elsewhere:
        url = elsewhere.url.replace("http", "https", 1)
        with pytest.raises(SourceError, match=r"can't be downloaded \(it redirects from https to http\)"):
            fetch(contract(), settings, url)
    assert server.asked == []
