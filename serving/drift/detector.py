"""Alibi Detect's test of each column, built from the bundle's reference and never loaded from a file."""

import os

import numpy as np
import pandas as pd

from offers.drift.examination import Reference, WatchedColumn

# Alibi Detect imports transformers, which advises to install PyTorch, and numba, which would want a directory for
# functions that it compiles; TabularDrift needs neither.
os.environ |= {"TRANSFORMERS_NO_ADVISORY_WARNINGS": "1", "NUMBA_DISABLE_JIT": "1"}
from alibi_detect.cd import TabularDrift


class Detector:
    """Kolmogorov-Smirnov for numbers, chi-squared for categories, over the cells that are known.

    One `TabularDrift` for each column: a single one over all would need every cell of a row, and one missing cell
    turns a column's p-value into NaN, which hides its drift. Missing cells are watched as a share of their own.
    """

    def __init__(self, reference: Reference) -> None:
        self.columns = reference.columns
        cells = {column.name: _known(column, reference.frame[column.name]) for column in self.columns}
        self._tests = {c.name: _test(c, cells[c.name]) for c in self.columns if cells[c.name].size}

    def p_values(self, rows: pd.DataFrame) -> dict[str, float]:
        """p-value by column; a column without a known cell, or with a single category, has none."""
        by_column = {}
        for column in self.columns:
            values = _known(column, rows[column.name])
            test = self._tests.get(column.name)
            if test and values.size and _can_differ(column, test.x_ref, values):
                p_values, _ = test.score(values)
                by_column[column.name] = float(p_values[0])
        return by_column


def _known(column: WatchedColumn, cells: pd.Series) -> np.ndarray:
    """The known cells as numbers, shape (n, 1)."""
    numbers = column.encode(cells)
    return numbers[~np.isnan(numbers)].reshape(-1, 1)


def _can_differ(column: WatchedColumn, *samples: np.ndarray) -> bool:
    return column.kind == "number" or len(np.unique(np.concatenate(samples))) > 1


def _test(column: WatchedColumn, values: np.ndarray) -> TabularDrift:
    # None lets the test take the categories from both samples; a list would break on one that neither holds.
    return TabularDrift(values, categories_per_feature={} if column.kind == "number" else {0: None})
