"""Divides a column into the groups for which figures are shown."""

import numpy as np
import pandas as pd

from offers.contract.column import Column


def groups(values: pd.Series, column: Column) -> pd.Series:
    """Divide a column into the groups for which figures are shown: its bands, its categories, or yes and no."""
    if not column.bands:
        return values.astype(object).where(values.notna(), "missing").astype(str)
    low, high = column.bands[0], column.bands[-1]
    between = [f"{a:g} to <{b:g}" for a, b in zip(column.bands, column.bands[1:], strict=False)]
    names = np.array([f"<{low:g}", *between, f">={high:g}", "missing"])
    place = np.searchsorted(np.array(column.bands), values.to_numpy(dtype=float), side="right")
    return pd.Series(names[np.where(values.isna(), len(names) - 1, place)])
