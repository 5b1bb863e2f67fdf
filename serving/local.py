"""Predictor and ranker on this machine: the processes that run in an InferenceService, on loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offers.errors import ServiceError

_GRACE = 40.0
"""Seconds; a service answers what is under way for 30 of them."""


@dataclass(frozen=True)
class Running:
    """A service that answers; `bound` is what it said of itself when it began to."""

    process: subprocess.Popen[str]
    bound: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.bound['http_port']}"


@dataclass(frozen=True)
class Services:
    """A predictor and the ranker in front of it."""

    predictor: Running
    ranker: Running


@contextmanager
def services(bundle: Path, catalogue: str, logs: Path, http_port: int = 0) -> Iterator[Services]:
    """Start both, on free ports but for the ranker's `http_port`; stop them at the end, the ranker first.

    Parameters
    ----------
    bundle : directory of the bundle
    catalogue : name of a shipped catalogue, or a file
    logs : directory for their logs, one line of JSON per request

    Raises
    ------
    ServiceError
        one of them can't be started: says why, in its own words
    """
    logs.mkdir(parents=True, exist_ok=True)
    with _running("predictor", logs, "--bundle", bundle, "--http_port", 0, "--grpc_port", 0) as predictor:
        where = ("--predictor_host", f"127.0.0.1:{predictor.bound['grpc_port']}")
        ports = ("--http_port", http_port, "--grpc_port", 0)
        with _running("ranker", logs, "--bundle", bundle, "--catalogue", catalogue, *where, *ports) as ranker:
            yield Services(predictor, ranker)


@contextmanager
def _running(name: str, logs: Path, *arguments: object) -> Iterator[Running]:
    log = logs / f"{name}.log"
    command = [sys.executable, "-m", f"serving.{name}", *map(str, arguments)]
    with log.open("w", encoding="utf-8") as errors:
        # In a session of its own: Ctrl-C reaches us alone, and we stop the services in their order.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
    try:
        yield Running(process, _bound(process, log))
    finally:
        _stop(process)


def _bound(process: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ServiceError((log.read_text("utf-8").splitlines() or [f"it ended without a word; see {log}"])[-1])
    bound: dict[str, Any] = json.loads(line)
    return bound


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
