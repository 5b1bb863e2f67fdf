"""Predictor, ranker and sidecar on this machine: the processes that run in an InferenceService, on loopback."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from offers.errors import ServiceError

_ROOT = Path(__file__).parents[1]
ROUTING = "routing.json"
ADDRESSES = "addresses.json"
_GRACE = 40.0
"""Seconds; a service answers what is under way for 30 of them."""


@dataclass(frozen=True)
class Running:
    """A service that answers. `bound` is the JSON line that it printed when it was ready: its ports and its bundle."""

    process: subprocess.Popen[str]
    bound: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.bound['http_port']}"


@dataclass(frozen=True)
class Services:
    """A predictor and the ranker in front of it; drift sidecar and shipper beside them where they were asked for."""

    predictor: Running
    ranker: Running
    drift: Running | None
    shipper: Running | None = None

    @property
    def processes(self) -> dict[str, subprocess.Popen[str]]:
        members = {"predictor": self.predictor, "ranker": self.ranker, "drift": self.drift, "shipper": self.shipper}
        return {name: service.process for name, service in members.items() if service is not None}


@dataclass(frozen=True)
class SidecarOptions:
    """How the drift sidecar is started.

    Parameters
    ----------
    python : interpreter of its environment, which is one of its own: alibi-detect and KServe can't share one
    sink : URL that takes its alarms; without one they are only logged and shown
    """

    python: Path
    sink: str = ""

    def __post_init__(self) -> None:
        # The sidecar asks the same, but says so only after seconds.
        if self.sink and not _is_address(self.sink):
            expected = "expected http://host:port/path, without a password"
            raise ServiceError(f"--sink: {expected}, got {self.sink[:80]!r}")


@dataclass(frozen=True)
class Log:
    """Where decisions are logged.

    Parameters
    ----------
    tables : directory, or s3:// prefix, of the log's tables
    key : file with the key of the customers' pseudonyms
    """

    tables: str
    key: Path

    def arguments(self, logs: Path) -> list[str]:
        """What the ranker is told of its log."""
        return ["--spool", str(logs / "spool"), "--pseudonym_key", str(self.key)]


def _is_address(sink: str) -> bool:
    try:
        url = httpx.URL(sink)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host) and not url.userinfo


def sidecar_python() -> Path:
    """Interpreter of the sidecar's environment.

    Raises
    ------
    ServiceError
        it was not set up
    """
    python = _ROOT / ".venv-drift" / "bin" / "python"
    if not python.exists():
        raise ServiceError(f"{python}: expected the environment of the drift sidecar; 'make setup' installs it")
    return python


@contextmanager
def services(
    bundle: Path,
    catalogue: str,
    logs: Path,
    http_port: int = 0,
    watch: SidecarOptions | None = None,
    decisions: Log | None = None,
) -> Iterator[Services]:
    """Start them, on free ports but for the ranker's `http_port`; stop them at the end, the ranker first.

    Parameters
    ----------
    bundle : directory of the bundle
    catalogue : name of a shipped catalogue, or a file
    logs : directory for their logs, one line of JSON per request, the sidecar's state and the spool; theirs alone
    decisions : where decisions are logged; without it they are not

    Raises
    ------
    ServiceError
        the directory is in use, the port is taken, or one of them can't be started: says why, in its own words
    """
    logs.mkdir(parents=True, exist_ok=True)
    free = ("--http_port", 0, "--grpc_port", 0)
    with ExitStack() as stack:
        lock = stack.enter_context(locked(logs))
        check_free(http_port)
        # They load for seconds: both at the same time.
        predictor_start = stack.enter_context(started("predictor", logs, lock, "--bundle", bundle, *free))
        drift_start = stack.enter_context(sidecar(bundle, logs, lock, watch)) if watch else None
        shipper_start = stack.enter_context(shipper(logs, lock, decisions)) if decisions else None
        predictor = predictor_start()
        drift = drift_start() if drift_start else None
        where = ["--predictor_host", f"127.0.0.1:{predictor.bound['grpc_port']}"]
        where += ["--drift_url", f"{drift.url}/events"] if drift else []
        where += decisions.arguments(logs) if decisions else []
        ports = ("--http_port", http_port, "--grpc_port", 0)
        ranker_start = started("ranker", logs, lock, "--bundle", bundle, "--catalogue", catalogue, *where, *ports)
        ranker = stack.enter_context(ranker_start)()
        yield Services(predictor, ranker, drift, shipper_start() if shipper_start else None)


def directory_of(home: Path, of_market: bool) -> Path:
    """Find the directory of this machine's services, of a market's recommender or of the others."""
    return home / ("recommend" if of_market else "serve")


def follows_ledger(directory: Path) -> bool:
    """Whether services of this directory run that switch to what the ledger says."""
    return (directory / ROUTING).exists() and in_use(directory)


def in_use(directory: Path) -> bool:
    """Whether services of this directory run, or start."""
    if not directory.is_dir():
        return False
    lock = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Keep a directory to ourselves and to the services, which inherit the lock: the last of us to end gives it up."""
    lock = os.open(directory, os.O_RDONLY)
    try:
        _lock(lock, directory)
        (directory / ADDRESSES).unlink(missing_ok=True)
        yield lock
    finally:
        os.close(lock)


def _lock(lock: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        advice = "stop them, or name another directory in OFFERS_HOME"
        raise ServiceError(f"{directory}: other services run here, or have not ended yet; {advice}") from None


def check_free(port: int) -> None:
    """Know now what the ranker would say after seconds."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = f"{error.strerror}; name another port, or 0 for a free one"
            raise ServiceError(f"can't listen on port {port} of 127.0.0.1: {reason}") from None


def sidecar(
    bundle: Path, logs: Path, lock: int, watch: SidecarOptions, name: str = "drift"
) -> AbstractContextManager[Callable[[], Running]]:
    """Start a drift sidecar, as `started` does; `name` is that of its log and of its state."""
    sink = ("--sink", watch.sink) if watch.sink else ()
    state = ("--state", logs / name, "--port", 0)
    return started("drift", logs, lock, "--bundle", bundle, *state, *sink, python=watch.python, log=name)


def shipper(logs: Path, lock: int, decisions: Log) -> AbstractContextManager[Callable[[], Running]]:
    """Start the shipper, as `started` does; to be left after the ranker, so that it ships what that seals last."""
    return started("shipper", logs, lock, "--spool", logs / "spool", "--tables", decisions.tables)


@contextmanager
def started(
    name: str, logs: Path, lock: int, *arguments: object, python: Path | None = None, log: str = ""
) -> Iterator[Callable[[], Running]]:
    """Start a service; what comes back waits until it answers."""
    file = logs / f"{log or name}.log"
    command = [str(python or sys.executable), "-m", "serving.process.tether", f"serving.{name}", *map(str, arguments)]
    environment = os.environ | ({"PYTHONPATH": str(_ROOT)} if python else {})
    with file.open("w", encoding="utf-8") as errors:
        # In a session of its own: Ctrl-C reaches us alone, and we stop the services in their order.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            start_new_session=True, env=environment, pass_fds=(lock,),
        )  # fmt: skip
    try:
        yield lambda: Running(process, _bound(process, file))
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
    """Stop a service, and leave its pipes last: the closed one would tell it to stop a second time."""
    with process:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
