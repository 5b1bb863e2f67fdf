"""Direction of effects: the partial dependence of the propensity on each of the columns that matter most."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.special import expit

from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.evaluation.figures import ColumnPower, Dependence
from offers.model.propensity import PropensityModel

MOST_COLUMNS = 8
MOST_POINTS = 20
_SAMPLE = 500
_TAIL = 0.01


def dependences(
    model: PropensityModel, frame: pd.DataFrame, contract: Contract, columns: Sequence[ColumnPower]
) -> Iterator[Dependence]:
    """Yield the dependence on the columns with the largest share of the gain, the largest first.

    Each point is the mean propensity of sampled rows after the column is set to the point's value in all of them
    (Friedman 2001, section 8.2). Beside it stands the share of the real rows with such a value.

    Parameters
    ----------
    frame : typed rows; the sample is spread evenly over them
    columns : powers of the contract's inputs
    """
    matrix = model.encoder.encode(frame)
    sample = matrix[np.unique(np.linspace(0, len(matrix) - 1, _SAMPLE).astype(int))]
    ranking = sorted(columns, key=lambda power: -power.gain_share)
    for power in ranking[:MOST_COLUMNS]:
        place = model.encoder.names.index(power.column)
        if dependence := _dependence(model, sample, matrix[:, place], place, contract[power.column]):
            yield dependence


def _dependence(
    model: PropensityModel, sample: np.ndarray, values: np.ndarray, place: int, column: Column
) -> Dependence | None:
    present = values[~np.isnan(values)]
    points = _points(present, column)
    has_missing, has_words = len(present) < len(values), column.type in ("category", "boolean")
    if len(points) + has_missing < 2:
        return None
    return Dependence(
        column=column.name,
        words=tuple(_word(point, column) for point in points) if has_words else (),
        numbers=() if has_words else tuple(map(float, points)),
        propensity=tuple(_mean(model, sample, place, point) for point in points),
        share=tuple(round(rows / len(values), 6) for rows in _rows(present, points, column)),
        missing=_mean(model, sample, place, np.nan) if has_missing else None,
        missing_share=round(1 - len(present) / len(values), 6),
    )


def _points(present: np.ndarray, column: Column) -> np.ndarray:
    """Choose the values to look at: all where they are few, else the most frequent categories, or equal steps."""
    distinct, counts = np.unique(present, return_counts=True)
    if len(distinct) <= MOST_POINTS:
        return distinct
    if column.type == "category":
        return np.sort(distinct[np.argsort(-counts, kind="stable")[:MOST_POINTS]])
    low, high = np.quantile(present, [_TAIL, 1 - _TAIL])
    points = np.linspace(low, high, MOST_POINTS)
    return np.unique(np.rint(points) if column.type == "integer" else points)


def _rows(present: np.ndarray, points: np.ndarray, column: Column) -> np.ndarray:
    """Count the rows of each category, or those with a number nearest to each point."""
    if column.type == "category":
        return np.asarray((present[:, None] == points).sum(axis=0))
    return np.bincount(np.searchsorted((points[1:] + points[:-1]) / 2, present), minlength=len(points))


def _mean(model: PropensityModel, sample: np.ndarray, place: int, code: float) -> float:
    changed = sample.copy()
    changed[:, place] = code
    return round(float(expit(model.encoded_margin(changed)).mean()), 6)


def _word(code: float, column: Column) -> str:
    return column.values[int(code)] if column.type == "category" else ("no", "yes")[int(code)]
