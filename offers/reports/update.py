"""What an update has changed in its parent, in the report of its run."""

from collections.abc import Sequence

from offers.evaluation.figures import Change
from offers.reports.tables import Cell, Table


def changes(changed: Sequence[Change]) -> Table | None:
    """Tabulate what was before and what is after; None for a training."""
    if not changed:
        return None
    head = (Cell("What"), Cell("Before", mark="words"), Cell("After", mark="words"))
    return Table(head, tuple((Cell(change.what), Cell(change.before), Cell(change.after)) for change in changed))
