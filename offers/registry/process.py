"""The mirror as a process of its own: a slow or broken MLflow costs a command seconds, never its work."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from offers.settings import Settings

GO = b"go\n"
_LONGEST_SECONDS = 600
"""For a process that no longer answers at all; it ends by itself long before, and killing it may spoil a new file."""


@contextmanager
def mirrored(settings: Settings, warn: Callable[[str], None], report: Path | None = None) -> Iterator[None]:
    """Update MLflow after a block that may write into the ledger; nothing is updated where the block fails.

    The mirror's process starts at once, so that it loads MLflow while the block runs.

    Parameters
    ----------
    warn : called with one sentence where MLflow could not be brought up to date
    report : page of the training that the block registers
    """
    if settings.tracking == "off":
        yield
        return
    command = [sys.executable, "-m", "offers.registry", *([str(report)] if report else [])]
    # In a session of its own, which the process may put behind all others.
    process = subprocess.Popen(
        command, env=_environment(settings), start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
        try:
            output = process.communicate(GO, _LONGEST_SECONDS)[0].decode(errors="replace").strip()
        except subprocess.TimeoutExpired:
            output = f"it took more than {_LONGEST_SECONDS} s"
        if output or process.returncode:
            reason = output or f"its process ended with {process.returncode}"
            warn(f"MLflow does not show all of the ledger: {reason}; {_remedy(reason)}")
    finally:
        process.kill()
        process.communicate()


def _remedy(reason: str) -> str:
    """Say what makes up for it: no update succeeds as long as MLflow refuses the schema of its database."""
    if "database schema" in reason:
        return "upgrade the database, or move its file away where a newer MLflow wrote it, then run 'offers model sync'"
    return "'offers model sync' makes up for it"


def _environment(settings: Settings) -> dict[str, str]:
    """Build the environment of the process; it inherits the credentials of stores."""
    own = {"OFFERS_HOME": str(settings.home.resolve()), "OFFERS_LEDGER": settings.ledger}
    own |= {"OFFERS_MLFLOW": "", "MLFLOW_TRACKING_URI": settings.tracking, "MLFLOW_RUN_ID": settings.tracking_run}
    return os.environ | own
