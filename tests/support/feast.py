"""Feast in its own environment: a repository applied, joined, materialised and served; and what stands in for it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pandas as pd
import pytest

from offers.contract.market import Market
from offers.data.feast_views import views
from tests.support.loopback import Handler, Loopback

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / ".venv-feast" / "bin" / "feast"
DEADLINE = 180.0

_JOIN = """
import sys
import pandas
from feast import FeatureStore
_, service, rows, output = sys.argv
store = FeatureStore(".")
joined = store.get_historical_features(pandas.read_parquet(rows), store.get_feature_service(service))
joined.to_df().to_parquet(output)
"""


def apply(repository: Path) -> None:
    """Register a repository; skips the test where there is no Feast."""
    if not PROGRAM.exists():
        pytest.skip("there is no Feast; 'make feast' installs it, and .ci/run does")
    _run(repository, PROGRAM, "apply")


def historical(repository: Path, service: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Join rows of keys and `event_timestamp` to the features of a service, by Feast."""
    rows.to_parquet(repository / "rows.parquet")
    _run(repository, PROGRAM.with_name("python"), "-c", _JOIN, service, "rows.parquet", "joined.parquet")
    return pd.read_parquet(repository / "joined.parquet")


def materialize(repository: Path, moment: str) -> None:
    """Load Feast's online store as of a moment."""
    _run(repository, PROGRAM, "materialize", "2000-01-01T00:00:00", moment)


@contextmanager
def served(repository: Path) -> Iterator[str]:
    """Start Feast's feature server, and yield its place as an online store."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [PROGRAM, "serve", "--port", str(port), "--no-access-log"]
    with (repository / "serve.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=repository, env=_environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + DEADLINE
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, (repository / "serve.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"feast+http://127.0.0.1:{port}"
    finally:
        # Its workers are processes of their own.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _environment() -> dict[str, str]:
    return os.environ | {"FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore"}


def _run(repository: Path, *command: object) -> None:
    run = subprocess.run(
        list(map(str, command)), cwd=repository, env=_environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


class FeatureServer(Loopback):
    """Stands in for Feast's feature server: it answers to everything with one answer, while `answers` is set."""

    def __init__(self, answer: Any, status: int = 200) -> None:
        self.answer, self.status, self.answers = answer, status, Event()
        self.answers.set()
        super().__init__(_Answer.of(self))

    @property
    def place(self) -> str:
        """Its place as an online store."""
        return f"feast+{self.url}"


class _Answer(Handler):
    double: FeatureServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.double.answers.wait(DEADLINE)
        self.send_json(self.double.status, self.double.answer)


def answer_of(market: Market, *users: dict[str, Any]) -> dict[str, Any]:
    """What Feast answers about users of whom it has these features; none of an unknown user."""
    names = [name for view in views(market) if view.of_users for name in view.fields]
    moments = ["2025-12-01T00:00:00Z" if user else "1970-01-01T00:00:00Z" for user in users]
    results = [
        {
            "values": [user.get(name) for user in users],
            "statuses": ["PRESENT" if name in user else "NOT_FOUND" for user in users],
            "event_timestamps": moments,
        }
        for name in names
    ]
    return {"metadata": {"feature_names": names}, "results": results}
