"""The demo's part on the layer: labels of newer customers update it, in seconds and without a training."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from offers.contract.contract import Contract
    from offers.retraining.journal import Journal
    from offers.settings import Settings

LABELS = 1000
"""Newer contacts that the layer learns, and those after them by which the bundles are compared."""
FEWER = -0.7
"""Log-odds by which the newer customers accept less than the bundle promises."""
_FIRST = 100_000
"""Row of the world's stream at which the newer customers begin: none of them was among the drifted ones."""


def update(contract: "Contract", settings: "Settings", contacts: Path, bundle: Path, journal: "Journal") -> None:
    """Add newer contacts to the file, let the chore of `offers retrain listen` ask for an update, compare the bundles.

    Parameters
    ----------
    contacts : CSV file that the bundle was trained on; it grows
    journal : that of the run that trained the bundle
    """
    from cli import chores
    from cli.pipeline import training_arguments
    from cli.run_display import RunDisplay
    from cli.screen import console
    from cli.traffic import contacts as written
    from cli.traffic import shifted
    from offers.bundle.location import open_bundle
    from offers.retraining.retrainer import Retrainer
    from pipelines.starting import LocalRuns

    parent = open_bundle(str(bundle), settings)
    newer = shifted(parent, 2 * LABELS, start=_FIRST, log_odds=FEWER)
    source = str(written(contract, settings, str(contacts), newer[:LABELS], contacts.parent))
    console.print(f"\nOutcomes of {LABELS} newer customers, who accept less: the layer learns them", style="bold")
    # The outcomes of these customers are known at once, and not only after the contract's days.
    arguments = training_arguments(contract.name, source, str(bundle.parent)) | {"lag": 0}
    with RunDisplay() as display:
        directory = settings.home.resolve() / "runs" / contacts.parent.name
        runs = LocalRuns(arguments, directory, journal.ended, display.update)
        retrainer = Retrainer(journal, runs)
        chores.by_labels(retrainer, contract.name, arguments, LABELS, lambda: bundle.name, settings)()
        runs.wait()
    _tell(contract, settings, bundle, newer[LABELS:], journal)


def _tell(contract: "Contract", settings: "Settings", bundle: Path, later: "pd.DataFrame", journal: "Journal") -> None:
    """Print how long training and update took, and how well both bundles know customers whom neither has learnt."""
    import numpy as np

    from cli.screen import console, plain_table
    from offers.bundle.location import open_bundle
    from offers.errors import ServiceError
    from offers.evaluation.metrics import figures

    ends = {entry.run: entry for entry in journal.entries() if entry.kind == "outcome"}
    runs = [entry for entry in journal.entries() if entry.kind == "decision" and entry.started]
    labels = later[contract.target.column].to_numpy(np.int64)
    table = plain_table("", "bundle", "seconds", "log-loss", "promised", "came")
    for name, run in (("training", runs[-2]), ("update", runs[-1])):
        end = ends[run.run]
        if not end.bundle:
            raise ServiceError(f"{run.run} made no bundle: {end.note}")
        made = open_bundle(end.bundle, settings)
        propensity = made.model.propensity(later)
        loss = figures(labels, propensity, contract.evaluation.contact_share)["log_loss"]
        shares = (f"{propensity.mean():.1%}", f"{labels.mean():.1%}")
        table.add_row(name, made.name, f"{(end.at - run.at).total_seconds():.0f}", f"{loss:.3f}", *shares)
    console.print(f"the {len(later)} customers after these, whom neither bundle has learnt:")
    console.print(table)
