"""Brings MLflow to what the ledger says, once it is told to on standard input; prints a sentence where it could not."""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from offers.background import step_back
from offers.errors import OffersError
from offers.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE = 5.0
"""Seconds that a server, or another process that writes the same file, may keep a command waiting."""

_WITHOUT_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{PATIENCE:g}"}


def main(report: str = "") -> None:
    # MLflow prints the addresses of runs, but the caller takes standard output for warnings.
    sys.stdout = sys.stderr
    settings = Settings.from_env()
    remote = settings.tracking.startswith(("http://", "https://"))
    if not report:
        # MLflow takes seconds of the CPU, and services may answer requests beside. A training waits for its report.
        step_back()
    try:
        patience = PATIENCE - (_answers(settings.tracking) if remote else 0.0)
        os.environ.update(_WITHOUT_TELEMETRY | _IMPATIENT)
        # MLflow would take this variable for the active run.
        os.environ.pop("MLFLOW_RUN_ID", None)
        import mlflow  # noqa: F401

        if not settings.tracking and _file(settings).exists():
            # MLflow checks the tables of a file that it opens: the caller need not wait for that either.
            with _alone(settings):
                _client(_file_uri(settings))
        if not sys.stdin.readline():
            return
        if remote:
            _ended_after(patience)
            _say("; ".join(_synced(settings, settings.tracking, "", report)))
        else:
            _to_file(settings, report)
    except OffersError as error:
        _say(str(error))
    # MLflow's exceptions have no common class: they come from SQLAlchemy, from requests and from itself.
    except Exception as error:
        _say(f"{settings.tracking or 'its file'}: {(str(error).splitlines() or [type(error).__name__])[0][:300]}")


def _say(sentence: str) -> None:
    print(sentence, file=sys.__stdout__, flush=True)


def _to_file(settings: Settings, report: str) -> None:
    artifacts = _file(settings).with_name("artifacts").as_uri()
    with _alone(settings):
        _say("; ".join(_synced(settings, settings.tracking or _file_uri(settings), artifacts, report)))


def _file(settings: Settings) -> Path:
    return settings.home.resolve() / "mlflow" / "mlflow.db"


def _file_uri(settings: Settings) -> str:
    return f"sqlite:///{_file(settings)}"


@cache
def _client(tracking: str) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking, tracking)


def _synced(settings: Settings, tracking: str, artifacts: str, report: str) -> list[str]:
    from offers.governance.access import open_ledger
    from offers.registry.mirror import Mirror

    page = Path(report) if report else None
    mirror = Mirror(
        _client(tracking), open_ledger(settings), settings.home.resolve(), artifacts, settings.tracking_run, page
    )
    mirror.sync()
    return mirror.notes


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold a lock on the file, because MLflow breaks a database that several processes create at once."""
    path, deadline = _file(settings).with_name(".lock"), time.monotonic() + PATIENCE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OffersError(f"{path}: another process has written for {PATIENCE:g} s") from None
                time.sleep(0.05)
        yield


def _answers(uri: str) -> float:
    """Check that the server answers before MLflow is loaded; returns the seconds that this took."""
    import httpx

    from offers.http_client import peer

    began = time.monotonic()
    try:
        peer("OFFERS_MLFLOW", f"{uri.rstrip('/')}/health", PATIENCE / 2).ask().raise_for_status()
    except httpx.HTTPError as error:
        raise OffersError(f"{uri}: {error or type(error).__name__}") from None
    return time.monotonic() - began


def _ended_after(seconds: float) -> None:
    def end() -> None:
        _say(f"the server took more than {PATIENCE:g} s")
        os._exit(1)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    main(*sys.argv[1:])
