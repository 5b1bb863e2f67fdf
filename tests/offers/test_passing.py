"""Which faults a step waits out: another machine is away; and which end it at once: what was given is wrong."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from offers.data import sql
from offers.data.http_file import HttpFile
from offers.errors import OffersError
from offers.retraining import alarm
from offers.settings import S3Settings, Settings
from offers.steps.data import ingest
from offers.store.s3 import S3Store, connect
from tests.support.http_double import FileServer
from tests.support.s3_double import S3Double

NOBODY = "127.0.0.1:9"


def fault(call: Any) -> OffersError:
    with pytest.raises(OffersError) as raised:
        call()
    return raised.value


def test_a_store_that_is_away_or_busy_passes_and_one_that_refuses_does_not(s3: S3Double) -> None:
    away = S3Settings(endpoint=NOBODY, access_key="me", secret_key=SecretStr("mine"), secure=False)
    assert fault(lambda: S3Store(connect(away), "bank", "").read_bytes("a")).passes
    store = S3Store(connect(s3.settings), "bank", "")
    for status, code, passes in ((503, "SlowDown", True), (403, "AccessDenied", False), (404, "NoSuchKey", False)):
        s3.refuse = lambda request, refusal=(status, code): refusal  # type: ignore[misc]
        assert fault(lambda: store.read_bytes("a")).passes is passes


def test_a_web_server_that_is_away_passes_and_a_page_that_is_not_there_does_not(server: FileServer) -> None:
    def opened(url: str) -> None:
        with HttpFile(url, url).open(0, ""):
            pass

    assert fault(lambda: opened(f"http://{NOBODY}/rows.csv")).passes
    for status, passes in ((404, False), (503, True)):
        server.status = status
        assert fault(lambda: opened(server.url)).passes is passes


def test_what_passes_is_told_by_the_step_on_data_as_well(shop_yaml: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    away = fault(lambda: ingest(shop_yaml, f"http://{NOBODY}/rows.csv", tmp_path / "raw", settings, lambda said: None))
    assert away.passes
    wrong = fault(lambda: ingest(shop_yaml, str(tmp_path / "none.csv"), tmp_path / "raw", settings, lambda said: None))
    assert not wrong.passes


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ('connection to server at "db" (10.0.0.1), port 5432 failed: Connection refused', True),
        ('could not translate host name "db" to address: Temporary failure in name resolution', True),
        ("FATAL:  the database system is starting up", True),
        ("(2006, 'MySQL server has gone away')", True),
        ('FATAL:  password authentication failed for user "me"', False),
        ("no such table: contacts", False),
        ('relation "contacts" does not exist', False),
    ],
)
def test_a_database_tells_by_its_words_whether_it_is_away(said: str, passes: bool) -> None:
    assert bool(sql._AWAY.search(said)) is passes


def test_a_trigger_that_is_away_passes(server: FileServer) -> None:
    data = {"bundle": "shop-1", "signals": {}, "reasons": []}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert fault(lambda: alarm.send(f"http://{NOBODY}/", "/here", "a1", moment, data)).passes
