"""Converts drawn numbers to the typed cells of a column, and back."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offers.contract.column import Column
from offers.simulation.arrays import Floats


def untyped(cells: "pd.Series[Any]") -> Floats:
    """Convert cells that `typed` made back to values: codes of categories, NaN where missing."""
    if isinstance(cells.dtype, pd.CategoricalDtype):
        codes = cells.cat.codes.to_numpy(np.float64)
        return np.where(codes < 0, np.nan, codes)
    return cells.to_numpy(np.float64)


def typed(column: Column, values: Floats) -> NDArray[Any] | pd.Categorical:
    """Convert values, which are codes for categories and NaN where missing, to cells of a column."""
    if column.type == "category":
        codes: Any = np.where(np.isnan(values), -1, values).astype(np.int64)
        return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(column.values)))
    if column.type == "number" or column.may_be_missing:
        return values
    return values.astype(np.bool_ if column.type == "boolean" else np.int64)
