"""Predictor, ranker and sidecar on this machine: the processes that run in an InferenceService, on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offers.errors import ServiceError

_ROOT = Path(__file__).parents[1]
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
    """A predictor and the ranker in front of it, and the drift sidecar beside them where it was asked for."""

    predictor: Running
    ranker: Running
    drift: Running | None

    @property
    def processes(self) -> dict[str, subprocess.Popen[str]]:
        named = {"predictor": self.predictor, "ranker": self.ranker, "drift": self.drift}
        return {name: service.process for name, service in named.items() if service is not None}


@dataclass(frozen=True)
class Watch:
    """How the drift sidecar is started.

    Parameters
    ----------
    python : interpreter of its environment, which is one of its own: alibi-detect and KServe can't share one
    sink : URL that takes its alarms; without one they are only logged and shown
    """

    python: Path
    sink: str = ""


def sidecar_python() -> Path:
    """Interpreter of the sidecar's environment.

    Raises
    ------
    ServiceError
        it was not set up
    """
    found = _ROOT / ".venv-drift" / "bin" / "python"
    if not found.exists():
        raise ServiceError(f"{found}: expected the environment of the drift sidecar; 'make setup' installs it")
    return found


@contextmanager
def services(
    bundle: Path, catalogue: str, logs: Path, http_port: int = 0, watch: Watch | None = None
) -> Iterator[Services]:
    """Start them, on free ports but for the ranker's `http_port`; stop them at the end, the ranker first.

    Parameters
    ----------
    bundle : directory of the bundle
    catalogue : name of a shipped catalogue, or a file
    logs : directory for their logs, one line of JSON per request, and for the sidecar's state

    Raises
    ------
    ServiceError
        one of them can't be started: says why, in its own words
    """
    logs.mkdir(parents=True, exist_ok=True)
    free = ("--http_port", 0, "--grpc_port", 0)
    with ExitStack() as stack:
        # They load for seconds: both at the same time.
        predictor_start = stack.enter_context(_started("predictor", logs, "--bundle", bundle, *free))
        drift_start = stack.enter_context(_sidecar(bundle, logs, watch)) if watch else None
        predictor = predictor_start()
        drift = drift_start() if drift_start else None
        where = ["--predictor_host", f"127.0.0.1:{predictor.bound['grpc_port']}"]
        where += ["--drift_url", f"{drift.url}/events"] if drift else []
        ports = ("--http_port", http_port, "--grpc_port", 0)
        ranker_start = _started("ranker", logs, "--bundle", bundle, "--catalogue", catalogue, *where, *ports)
        yield Services(predictor, stack.enter_context(ranker_start)(), drift)


def _sidecar(bundle: Path, logs: Path, watch: Watch) -> AbstractContextManager[Callable[[], Running]]:
    sink = ("--sink", watch.sink) if watch.sink else ()
    state = ("--state", logs / "drift", "--port", 0)
    return _started("drift", logs, "--bundle", bundle, *state, *sink, python=watch.python)


@contextmanager
def _started(name: str, logs: Path, *arguments: object, python: Path | None = None) -> Iterator[Callable[[], Running]]:
    """Start a service; what comes back waits until it answers."""
    log = logs / f"{name}.log"
    command = [str(python or sys.executable), "-m", f"serving.{name}", *map(str, arguments)]
    environment = os.environ | ({"PYTHONPATH": str(_ROOT)} if python else {})
    with log.open("w", encoding="utf-8") as errors:
        # In a session of its own: Ctrl-C reaches us alone, and we stop the services in their order.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True, env=environment
        )
    try:
        yield lambda: Running(process, _bound(process, log))
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
