"""How the values of one simulated column are distributed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import ndtri

from offers.contract.column import Column
from offers.errors import SourceError
from offers.simulation.arrays import Floats
from offers.simulation.shifts import CovariateShift, ShareShift

SKEWED = 0.15
"""A typical range that begins this near to `min`, as a share of its length, makes a column skewed."""


WIDTH = 100.0
"""Length of the range of a numeric column of which the contract says too little."""


@dataclass(frozen=True)
class Range:
    """The distribution of a numeric column, as the value at each uniform number."""

    column: Column
    offset: float = 0.0

    def at(self, uniform: Floats) -> Floats:
        low, high = self._bounds
        digits = 0 if self.column.type == "integer" else 3 - math.floor(math.log10(max(high - low, 1e-6)))
        values = np.round(self._unbounded(np.clip(uniform, 1e-9, 1 - 1e-9)) + self.offset, digits)
        values = np.clip(values, self.column.min, self.column.max) + 0.0
        return np.where(np.isin(values, self._codes), np.nan, values)

    def shifted(self, shift: CovariateShift | ShareShift) -> "Range":
        if isinstance(shift, ShareShift):
            raise SourceError(f"column {shift.column!r} is numeric, expected a CovariateShift of it, got {shift}")
        return replace(self, offset=self.offset + shift.sigmas * self.sigma)

    @property
    def sigma(self) -> float:
        """Standard deviation of the column before any shift."""
        return float(np.nanstd(replace(self, offset=0.0).at((np.arange(4096) + 0.5) / 4096)))

    @property
    def _codes(self) -> Floats:
        """The numbers that stand for a missing value."""
        numbers = [code.replace(",", ".") for code in self.column.missing]
        return pd.to_numeric(pd.Series(numbers, dtype=object), errors="coerce").to_numpy(np.float64)

    def _unbounded(self, uniform: Floats) -> Floats:
        low, high = self._bounds
        if self.column.typical is None:
            return low + (high - low) * uniform
        skewed = self.column.min is not None and low - self.column.min < SKEWED * (high - low)
        score: Callable[[Floats], Floats] = _exponential if skewed else ndtri
        first, last = score(np.array([0.05, 0.95]))
        return np.asarray(low + (high - low) * (score(uniform) - first) / (last - first))

    @property
    def _bounds(self) -> tuple[float, float]:
        """The central 90 % where it is known, else the whole range."""
        low, high = self.column.min, self.column.max
        if isinstance(self.column.typical, tuple):
            return self.column.typical
        if low is None:
            low = 0.0 if high is None else high - WIDTH
        return low, low + WIDTH if high is None else high


@dataclass(frozen=True)
class Shares:
    """The distribution of a category or boolean column, as the code of its value at each uniform number."""

    labels: tuple[str | bool, ...]
    shares: tuple[float, ...]

    def at(self, uniform: Floats) -> Floats:
        return np.searchsorted(np.cumsum(self.shares)[:-1], uniform, side="right").astype(np.float64)

    def shifted(self, shift: CovariateShift | ShareShift) -> "Shares":
        old = {label: share for label, share in zip(self.labels, self.shares, strict=True) if 0 < share < 1}
        if isinstance(shift, CovariateShift) or shift.value not in old or shift.factor < 0:
            able = f"a ShareShift of one of {list(old)} by a factor of at least 0"
            raise SourceError(f"column {shift.column!r} is of labels, expected {able}, got {shift}")
        share = min(1.0, shift.factor * old[shift.value])
        others = (1 - share) / (1 - old[shift.value])
        new = {label: others * share for label, share in old.items()} | {shift.value: share}
        return replace(self, shares=tuple(new.get(label, 0.0) for label in self.labels))


Marginal = Range | Shares


def marginal_of(column: Column) -> Marginal:
    if column.is_numeric:
        return Range(column)
    labels: tuple[str | bool, ...] = column.values or (False, True)
    typical = column.typical if isinstance(column.typical, dict) else {}
    untold = max(0.0, 1 - sum(typical.values())) / max(1, len(labels) - len(typical))
    shares = np.array([typical.get(str(label), untold) * (label not in column.missing) for label in labels])
    return Shares(labels, tuple(shares / shares.sum()))


def _exponential(uniform: Floats) -> Floats:
    return np.asarray(-np.log1p(-uniform))
