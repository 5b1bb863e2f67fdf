"""A service before its first bundle, as probes, Prometheus and a caller meet it."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.process.waiting import SENTENCE, wait_for_bundle

Waiting = tuple[subprocess.Popen[str], httpx.Client]


@pytest.fixture(params=["predictor", "ranker"])
def waiting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Waiting]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = ["--bundle", str(tmp_path / "models"), "--http_port", str(port)]
    command = [sys.executable, "-m", f"serving.{request.param}", *where, "--wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield process, client
        process.kill()


def test_it_lives_is_not_ready_and_says_for_what_it_waits(waiting: Waiting, tmp_path: Path) -> None:
    process, client = waiting
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    assert line["message"] == f"{tmp_path / 'models'}: {SENTENCE}"
    for path in ("/v2/health/live", "/healthz"):
        assert client.get(path).status_code == 200
    ready = client.get("/v2/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"error": SENTENCE})
    assert client.post("/v1/models/offers:predict", json={"instances": []}).status_code == 503
    # Prometheus counts it as up, so that no alert says that nobody is answered.
    assert "offers_waiting 1" in client.get("/metrics").text
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def test_where_there_is_a_bundle_nothing_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    wait_for_bundle(tmp_path, "127.0.0.1", 0)
