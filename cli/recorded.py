"""Writes decisions on retraining, and the ends of runs, into the ledger; what can't be written there is a warning."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offers.retraining.journal import Decision, Journal
    from offers.settings import Settings


def register_end(journal: "Journal", settings: "Settings") -> Callable[[str, bool, str, str], None]:
    """Register the bundle of a run that has ended, and write its end into the journal."""
    from cli.release import register_run
    from offers.errors import OffersError
    from offers.governance.access import open_to_write
    from offers.retraining import recording

    def ended(run: str, succeeded: bool, bundle: str, note: str) -> None:
        try:
            note = f"release {register_run(bundle, settings)}" if bundle else note
            recording.ended(*open_to_write(settings), journal.contract, run, succeeded, bundle, note)
        except OffersError as error:
            note = f"{note}; not in the ledger: {error}" if note else f"no release: {error}"
        journal.ended(run, succeeded, bundle, note)

    return ended


def record_end(journal: "Journal", settings: "Settings") -> Callable[[str, bool, str, str], None]:
    """Write the ends of runs on a cluster into the ledger that has a key for us; if that fails, a warning says so."""
    from offers.errors import OffersError
    from offers.governance.access import open_as_member
    from offers.retraining import recording

    def ended(run: str, succeeded: bool, bundle: str, note: str) -> None:
        if not _is_member(settings):
            return
        try:
            recording.ended(*open_as_member(settings), journal.contract, run, succeeded, bundle, note)
        except OffersError as error:
            _warn(f"the end of {run} is in the journal, not in the ledger: {error}")

    return ended


def record_decision(
    settings: "Settings", announce: "Callable[[Decision], None] | None" = None, member: bool = False
) -> "Callable[[Decision], None]":
    """Write decisions into the ledger; if that fails, the run starts all the same, and a warning says so.

    Parameters
    ----------
    member : the ledger is one that others share: without a key that it knows, nothing is written
    """
    from offers.errors import OffersError
    from offers.governance.access import open_as_member, open_to_write
    from offers.retraining import recording

    def told(decision: "Decision") -> None:
        if announce is not None:
            announce(decision)
        if member and not _is_member(settings):
            return
        try:
            recording.decided(*(open_as_member if member else open_to_write)(settings), decision)
        except OffersError as error:
            _warn(f"this decision is in the journal, not in the ledger: {error}")

    return told


def _is_member(settings: "Settings") -> bool:
    return bool(settings.ledger and settings.key and settings.key.exists())


def _warn(sentence: str) -> None:
    print(f"offers: {sentence}", file=sys.stderr, flush=True)
