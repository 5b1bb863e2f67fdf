"""The comparison of learners in the report of a training, where the search tried several."""

from collections.abc import Sequence

from offers.contract.sections import LEARNER_NAMES
from offers.evaluation.figures import Candidate, Window
from offers.reports.tables import Cell, Table, count, figure

_METRICS = {"auc": "AUC", "log_loss": "Log-loss", "ece": "ECE", "lift": "Lift"}


def learners(candidates: Sequence[Candidate], windows: Sequence[Window]) -> Table | None:
    """Tabulate the learners on the same rows, the model's own first; None where there is nothing to compare."""
    if not candidates:
        return None
    head = ["Learner", "Rows", *_METRICS.values(), *(f"AUC in {window.name}" for window in windows)]
    return Table(tuple(map(Cell, head)), tuple(_line(candidate, not n) for n, candidate in enumerate(candidates)))


def _line(candidate: Candidate, own: bool) -> tuple[Cell, ...]:
    figures = candidate.scores.figures
    return (
        Cell(LEARNER_NAMES[candidate.learner], "the model's" if own else ""),
        Cell(count(candidate.scores.rows)),
        *(Cell(str(figures[name])) if name in figures else Cell(figure(None)) for name in _METRICS),
        *(Cell(figure(auc)) for auc in candidate.windows),
    )
