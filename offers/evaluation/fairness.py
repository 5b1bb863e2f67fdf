"""Measures how a score treats the groups of protected columns."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from offers.contract.contract import Contract
from offers.evaluation import metrics
from offers.evaluation.figures import (
    Fairness,
    Group,
)
from offers.evaluation.segments import groups


def fairness(rows: pd.DataFrame, labels: np.ndarray, propensity: np.ndarray, contract: Contract) -> Iterator[Fairness]:
    contacts = metrics.contacted(propensity, contract.evaluation.contact_share)
    for column in contract.protected:
        cut = groups(rows[column.name], column).to_numpy()
        sizes = dict(zip(*np.unique(cut, return_counts=True), strict=True))
        small = tuple(value for value, size in sizes.items() if size < contract.evaluation.smallest_segment)
        results = tuple(
            _group(value, labels[cut == value], propensity[cut == value], contacts[cut == value])
            for value in sizes
            if value not in small
        )
        rates = [group.selection_rate for group in results]
        recalls = [group.recall for group in results if group.recall is not None]
        yield Fairness(
            column=column.name,
            groups=results,
            left_out=small,
            without_recall=tuple(group.value for group in results if group.recall is None),
            selection_ratio=round(min(rates) / max(rates), 6) if len(rates) > 1 and max(rates) else None,
            recall_difference=rounded(max(recalls) - min(recalls)) if len(recalls) > 1 else None,
        )


def _group(value: str, labels: np.ndarray, propensity: np.ndarray, contacts: np.ndarray) -> Group:
    """Measure one group; `contacts` are the chances to be contacted, shape (n,), in [0, 1]."""
    reached, accepted = float(contacts @ labels), int(labels.sum())
    return Group(
        value=value,
        rows=len(labels),
        positive_rate=round(float(labels.mean()), 6),
        mean_propensity=round(float(propensity.mean()), 6),
        selection_rate=round(float(contacts.mean()), 6),
        precision=round(reached / float(contacts.sum()), 6) if contacts.any() else None,
        recall=round(reached / accepted, 6) if accepted else None,
    )


def rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(value, 6)
