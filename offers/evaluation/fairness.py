"""Measures how a score treats the groups of protected columns."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, count, selection_rate
from sklearn.metrics import precision_score, recall_score

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
        large = ~np.isin(cut, small)
        if not large.any():
            yield Fairness(column=column.name, groups=(), left_out=small, selection_ratio=None, recall_difference=None)
            continue
        frame = MetricFrame(
            metrics={
                "rows": count,
                "selection_rate": selection_rate,
                "precision": partial(precision_score, zero_division=np.nan),
                "recall": partial(recall_score, zero_division=np.nan),
            },
            y_true=labels[large],
            y_pred=contacts[large].astype(int),
            sensitive_features=cut[large],
        )
        results = tuple(
            Group(
                value=value,
                rows=int(line["rows"]),
                positive_rate=round(float(labels[cut == value].mean()), 6),
                mean_propensity=round(float(propensity[cut == value].mean()), 6),
                selection_rate=round(float(line["selection_rate"]), 6),
                precision=rounded(float(line["precision"])),
                recall=rounded(float(line["recall"])),
            )
            for value, line in frame.by_group.iterrows()
        )
        recalls = [group.recall for group in results if group.recall is not None]
        yield Fairness(
            column=column.name,
            groups=results,
            left_out=small,
            without_recall=tuple(group.value for group in results if group.recall is None),
            selection_ratio=rounded(float(frame.ratio()["selection_rate"])) if len(results) > 1 else None,
            recall_difference=rounded(max(recalls) - min(recalls)) if len(recalls) > 1 else None,
        )


def rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(value, 6)
