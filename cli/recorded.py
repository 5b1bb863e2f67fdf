"""Registers the bundles of retraining runs on this machine, and writes the runs' ends into the ledger."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offers.retraining.journal import Journal
    from offers.settings import Settings


def register_end(journal: "Journal", settings: "Settings") -> Callable[[str, bool, str, str], None]:
    """Register the bundle of a run that has ended, and write its end into the journal."""
    from cli.mirror import mirrored
    from cli.release import registered
    from offers.errors import OffersError

    def ended(run: str, succeeded: bool, bundle: str, note: str) -> None:
        try:
            if bundle:
                with mirrored(settings):
                    note = f"release {registered(bundle, settings)}"
        except OffersError as error:
            note = f"no release: {error}"
        journal.ended(run, succeeded, bundle, note)

    return ended
