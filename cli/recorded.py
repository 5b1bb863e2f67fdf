"""Registers the bundles of retraining runs on this machine, and writes the runs' ends into the ledger."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offers.retraining.journal import Journal
    from offers.settings import Settings


def register_end(journal: "Journal", settings: "Settings") -> Callable[[str, bool, str, str], None]:
    """Register the bundle of a run that has ended, and write its end into the journal."""
    from cli.release import register_run
    from offers.errors import OffersError

    def ended(run: str, succeeded: bool, bundle: str, note: str) -> None:
        try:
            note = f"release {register_run(bundle, settings)}" if bundle else note
        except OffersError as error:
            note = f"no release: {error}"
        journal.ended(run, succeeded, bundle, note)

    return ended
