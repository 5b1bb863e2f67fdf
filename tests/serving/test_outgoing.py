"""Who calls others waits no longer than its deadline, reads no more than its limit, and goes where it was sent."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydantic import SecretStr

from deployment import predictor as deployed
from offers import http_pool
from offers.data import http_file
from offers.data.download import download
from offers.errors import OffersError
from offers.http_client import peer
from offers.registry import __main__ as mirror
from offers.retraining import alarm
from offers.settings import S3Settings, Settings
from offers.store.store import Store, open_store
from pipelines import kubeflow
from serving import asking
from serving.drift.alarms import Alarm, Sink
from serving.process import callers
from serving.ranker.feed import Feed, ScoredRows, events
from tests.support.rude_double import MANNERS, Manner, RudeDouble

SECONDS, MOST_SECONDS = 0.3, 3.0
MOST_BYTES = 64 << 20
Ask = Callable[[str], None]


def deliver(url: str) -> None:
    async def run() -> None:
        one = Alarm("shop-1", {}, [], 1, {})
        sink = Sink(peer("--sink", url, SECONDS))
        taken, _ = await sink._post(one)
        await sink.close()
        if taken:
            raise OffersError(taken)

    asyncio.run(run())


def feed(url: str) -> None:
    async def run() -> None:
        rows = ScoredRows("shop-1", {"age": np.array([1.0])}, np.array([0.5]))
        async with Feed("drift", events(url, SECONDS), batch=1, seconds=0.01) as sidecar:
            sidecar.offer(rows)
        if sidecar.dropped:
            raise OffersError("dropped")

    asyncio.run(run())


def keys(url: str) -> None:
    asyncio.run(callers.Keys(url).look())


def trigger(url: str) -> None:
    alarm.send(url, "/test", "1", datetime.now(UTC), {"bundle": "shop-1"})


def bucket(url: str) -> Store:
    s3 = S3Settings(
        endpoint=url.partition("//")[2], access_key="me", secret_key=SecretStr("x"), region="r", secure=False
    )
    return open_store("s3://bank", Settings(s3=s3))


def read(url: str) -> None:
    bucket(url).read_bytes("a")


def listing(url: str) -> None:
    bucket(url).keys()


def write(url: str) -> None:
    bucket(url).write_bytes("a", b"content")


def health(url: str) -> None:
    kubeflow.Kubeflow(url)


def runs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeflow, "_check", lambda url, token: None)
    kubeflow.Kubeflow(url).runs()


def predictor(url: str) -> None:
    deployed.served(url)


def mlflow(url: str) -> None:
    mirror._answers(url)


def ranker(url: str) -> None:
    asking.ask(url, {"instances": []})


CLIENTS: list[Ask] = [deliver, feed, keys, trigger, predictor, ranker, mlflow, read, listing, write, health]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "ANSWER_SECONDS", SECONDS)
    monkeypatch.setattr("offers.store.s3.OBJECT_BYTES", 1 << 20)
    monkeypatch.setattr(callers, "_KEYS_SECONDS", SECONDS)
    monkeypatch.setattr(alarm, "_SECONDS", SECONDS)
    monkeypatch.setattr(deployed, "_SECONDS", SECONDS)
    monkeypatch.setattr(mirror, "PATIENCE", 2 * SECONDS)
    monkeypatch.setattr(asking, "_ASK_SECONDS", SECONDS)
    monkeypatch.setattr(kubeflow, "_HEALTH_SECONDS", SECONDS)
    # Who asked this proxy would get another error at once, and count no call.
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)


@pytest.mark.parametrize("manner", ["drips", "drips its head", "never ends", "redirects"])
def test_a_rude_download_is_given_up(manner: Manner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(http_file, "PATIENCE", SECONDS)
    monkeypatch.setattr(http_file, "UNSIZED_BYTES", 1 << 20)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name)
    with RudeDouble(manner) as double:
        begun = time.monotonic()
        with pytest.raises(OffersError):
            download(http_file.HttpFile(double.url, double.url), tmp_path / "part", "", False, None)
        assert time.monotonic() - begun < MOST_SECONDS
        assert double.elsewhere == (http_file.REDIRECTS if manner == "redirects" else 0)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("ask", [*CLIENTS, runs], ids=lambda ask: ask.__name__)
def test_a_rude_answer_is_given_up(ask: Ask, manner: Manner, monkeypatch: pytest.MonkeyPatch) -> None:
    before, process = psutil.Process().memory_info().rss, psutil.Process()
    with RudeDouble(manner) as double:
        begun = time.monotonic()
        with pytest.raises(OffersError):
            ask(double.url, monkeypatch) if ask is runs else ask(double.url)  # type: ignore[call-arg]
        assert time.monotonic() - begun < MOST_SECONDS
        assert process.memory_info().rss - before < MOST_BYTES
        assert double.elsewhere == 0
