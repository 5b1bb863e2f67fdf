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
    """Let MLflow follow the ledger after the block, which may write into it; nothing follows where the block fails.

    The process starts at once: it loads MLflow while the block works.

    Parameters
    ----------
    warn : takes one sentence where MLflow could not be brought to what the ledger says
    report : page of the training that the block registers
    """
    if settings.tracking == "off":
        yield
        return
    command = [sys.executable, "-m", "offers.registry", *([str(report)] if report else [])]
    process = subprocess.Popen(
        command, env=_environment(settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield
        try:
            output = process.communicate(GO, _LONGEST_SECONDS)[0].decode(errors="replace").strip()
        except subprocess.TimeoutExpired:
            output = f"it took more than {_LONGEST_SECONDS} s"
        if output or process.returncode:
            reason = output or f"its process ended with {process.returncode}"
            warn(f"MLflow does not show all of the ledger: {reason}; 'offers model sync' makes up for it")
    finally:
        process.kill()
        process.communicate()


def _environment(settings: Settings) -> dict[str, str]:
    """What the process finds its way by; keys of stores it inherits."""
    own = {"OFFERS_HOME": str(settings.home.resolve()), "OFFERS_LEDGER": settings.ledger}
    own |= {"OFFERS_MLFLOW": "", "MLFLOW_TRACKING_URI": settings.tracking, "MLFLOW_RUN_ID": settings.tracking_run}
    return os.environ | own
