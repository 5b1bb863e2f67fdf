"""How a window's cells are spread beside the reference's, in bars that a page can draw."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from offers.drift.examination import UNSEEN, WatchedColumn

BARS = 20
_TAIL = 0.005


@dataclass(frozen=True)
class Histogram:
    """Shares of the known cells per bar, in the reference and in the window; they sum to 1 where a cell is known."""

    labels: tuple[str, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def histogram(
    column: WatchedColumn, reference: pd.Series, window: pd.Series, shown: Callable[[float], str] = "{:.4g}".format
) -> Histogram:
    """Count both in the same bars; `shown` writes a number for the labels.

    Numbers are cut into equal widths between the outer half percents of the reference, which the outermost bars take
    in; few different numbers have a bar each. Categories have a bar each; those never seen share one.
    """
    parts = [cells[~np.isnan(cells)] for cells in (column.encode(reference), column.encode(window))]
    if not parts[0].size:
        return Histogram((), (), ())
    if column.kind != "number":
        unseen = (UNSEEN,) if (parts[1] == len(column.values)).any() else ()
        return _counted((*column.values, *unseen), *(part.astype(int) for part in parts))
    values = np.unique(parts[0])
    if len(values) <= BARS:
        middles = (values[1:] + values[:-1]) / 2
        return _counted([shown(value) for value in values], *(np.searchsorted(middles, part) for part in parts))
    edges = np.linspace(*_ends(parts[0]), BARS + 1)
    labels = [f"{shown(low)} to {shown(high)}" for low, high in pairwise(edges)]
    return _counted(labels, *(np.searchsorted(edges[1:-1], part) for part in parts))


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    return (low, high) if low < high else (values.min(), values.max())


def _counted(labels: Sequence[str], *places: np.ndarray) -> Histogram:
    counts = [np.bincount(part, minlength=len(labels)) for part in places]
    reference, window = (tuple((count / max(count.sum(), 1)).tolist()) for count in counts)
    return Histogram(tuple(labels), reference, window)
