"""A simulated world for any contract: seeded, with known true propensities, delayed outcomes, drift on demand."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri

from offers.contract import MONTHS, Column, Contract, Role
from offers.errors import ContractError, SourceError

Floats = NDArray[np.float64]
Values = dict[str, Floats]

BLOCK = 8192
REFERENCE_BLOCKS = 4
INTERACTIONS = ((0, 1), (0, 2), (1, 2), (1, 3), (0, 3))
INTERACTION_SHARE = 0.45
DECAY = 0.75
AUTOCORRELATION = 0.5
UNLISTED = "unlisted"


@dataclass(frozen=True)
class RateShift:
    """From row `at` on, every acceptance is `logits` more (or less) likely."""

    at: int
    logits: float


@dataclass(frozen=True)
class CovariateShift:
    """From row `at` on, a numeric column is `sigmas` of its standard deviations higher (or lower).

    The values move before they are rounded and held within `min` and `max`.
    """

    at: int
    column: str
    sigmas: float


@dataclass(frozen=True)
class ShareShift:
    """From row `at` on, the share of one value of a category or boolean column is multiplied by `factor`.

    The other values shrink or grow in proportion; a share ends at 1.
    """

    at: int
    column: str
    value: str | bool
    factor: float


@dataclass(frozen=True)
class ConceptShift:
    """From row `at` on, customer effects that hold at least `share` of the customer variance change sign."""

    at: int
    share: float


Regime = RateShift | CovariateShift | ShareShift | ConceptShift


@dataclass(frozen=True)
class Sample:
    """Rows of a world, in the order of their decisions.

    Attributes
    ----------
    frame : DataFrame, typed, all of the contract's columns
    propensity : ndarray, shape (rows,), the true probability of acceptance, in (0, 1)
    decided_at, outcome_at : ndarray of datetime64[ns], shape (rows,); outcome_at is never before decided_at
    """

    frame: pd.DataFrame
    propensity: Floats
    decided_at: NDArray[np.datetime64]
    outcome_at: NDArray[np.datetime64]


@dataclass(frozen=True, eq=False)
class World:
    """What is true of a contract's simulated customers and of their times; every number follows from `seed`.

    The logit of acceptance is an intercept, which makes the mean propensity `simulation.base_rate`, plus a
    customer part (effects and interactions of input columns, with standard deviation `customer_spread`), plus,
    for contracts with `time`, one level for each month (autocorrelated, with standard deviation `period_spread`).
    Context columns are then constant within a month and follow its level in part.

    Examples
    --------
    >>> from offers.contract import load
    >>> sample = World(load("personal-loan"), seed=1).sample(2000)
    >>> len(sample.frame), bool(abs(sample.propensity.mean() - 0.1) < 0.02)
    (2000, True)
    """

    contract: Contract
    seed: int = 0

    def sample(self, rows: int, *, seed: int = 0, start: int = 0, regimes: Sequence[Regime] = ()) -> Sample:
        """Rows `start` to `start + rows` of the endless stream that `seed` names.

        The months of the contract's timeline are spread over all `start + rows` rows, so that
        `sample(n, start=s)` gives the last n rows of `sample(s + n)`.

        Parameters
        ----------
        rows : int, at least 1
        seed : int, names the stream; the world's truth does not depend on it
        start : int, at least 0
        regimes : changes of the world, each from row `at` of the stream on; rows before it stay as they are

        Raises
        ------
        SourceError
            rows or start is out of range, or a regime names a column or value that can't be shifted
        """
        if rows < 1 or start < 0:
            raise SourceError(f"a sample needs rows >= 1 and start >= 0, got rows {rows} and start {start}")
        for regime in regimes:
            self._check(regime)
        stop = start + rows
        in_order = sorted(regimes, key=lambda regime: regime.at)
        blocks = [
            self._block(np.arange(max(start, first), min(stop, first + BLOCK)), seed, stop, in_order)
            for first in range(start - start % BLOCK, stop, BLOCK)
        ]
        values = {name: np.concatenate([block.pop(name) for block in blocks]) for name in tuple(blocks[0])}
        return self._typed(np.arange(start, stop), values)

    def _block(self, rows: NDArray[np.int64], seed: int, horizon: int, regimes: Sequence[Regime]) -> Values:
        """Values of rows that lie within one block, with '_propensity' and '_delay' (days)."""
        uniform = self._uniform("rows", seed, rows[0] // BLOCK)
        uniform = {name: drawn[rows % BLOCK] for name, drawn in uniform.items()}
        period = self._months.at(rows / horizon)
        if self.contract.time:
            uniform |= {name: levels[period] for name, levels in self._contexts.items()}
        values = self._columns(uniform, rows, regimes)
        logit = self._intercept + self._levels[period] + self._customers.logit(values, rows, regimes)
        for shift in _of(RateShift, regimes):
            logit += np.where(rows >= shift.at, shift.logits, 0.0)
        propensity = expit(logit)

    def _columns(self, uniform: Values, rows, regimes) -> Values: ...
