"""Brings MLflow up to date with the ledger after a command."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offers.settings import Settings


def mirrored(settings: "Settings", report: Path | None = None) -> AbstractContextManager[None]:
    """Update MLflow after a block that writes into the ledger; a failure is a warning."""
    from offers.registry import process

    return process.mirrored(settings, _warn, report)


def sync() -> None:
    """Make MLflow show what the ledger says: runs, versions, aliases. It is done after every command that writes."""
    from offers.errors import ServiceError
    from offers.registry import process
    from offers.settings import Settings

    settings = Settings.from_env()
    if settings.tracking == "off":
        raise ServiceError("MLflow is off: expected OFFERS_MLFLOW to be empty, got 'off'")
    warnings = list[str]()
    with process.mirrored(settings, warnings.append):
        pass
    if warnings:
        raise ServiceError(warnings[0])
    print("MLflow shows what the ledger says")


def _warn(sentence: str) -> None:
    print(f"offers: {sentence}", file=sys.stderr, flush=True)
