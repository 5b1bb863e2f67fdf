"""A simulated world for any contract: seeded, with known true propensities, delayed outcomes and drift on demand."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.errors import SourceError
from offers.simulation.arrays import BLOCK, NANOSECONDS, REFERENCE_BLOCKS, Floats, Rows, Times, Values
from offers.simulation.cells import typed, untyped
from offers.simulation.climate import Climate
from offers.simulation.effects import Customers, customer_effects
from offers.simulation.marginals import Marginal, marginal_of
from offers.simulation.shifts import CovariateShift, RateShift, Regime, ShareShift

MISSING = (0.02, 0.15)
"""Range of the share of missing values in a column that may be missing."""


SMALLEST_WEIGHT = 0.5
"""Where the contract names no lowest weight."""


LEAK = 1.8
"""How far acceptance moves a leaking column, in standard deviations."""


@dataclass(frozen=True)
class Sample:
    """Rows of a world, in the order of their decisions.

    Attributes
    ----------
    frame : DataFrame, typed, with all of the contract's columns
    propensity : ndarray, shape (rows,), the true probability of acceptance, in (0, 1)
    decided_at, outcome_at : ndarray of datetime64[ns], shape (rows,); an outcome is never before its decision
    """

    frame: pd.DataFrame
    propensity: Floats
    decided_at: Times
    outcome_at: Times


@dataclass(frozen=True, eq=False)
class World:
    """A contract's simulated customers and months, with known true propensities, all determined by `seed`.

    The logit of acceptance is a sum. An intercept makes the mean propensity `simulation.base_rate`. Effects and
    interactions of input columns have standard deviation `customer_spread`. For contracts with `time`, each month adds
    an autocorrelated level with standard deviation `period_spread`; context columns are then constant within a month.
    They have a trend, and around it they follow the level, at first in one direction and by the end in the other. So
    what a model learns about them becomes outdated.

    Examples
    --------
    >>> from offers.contract.contract import load
    >>> sample = World(load("personal-loan"), seed=1).sample(2000)
    >>> len(sample.frame), bool(abs(sample.propensity.mean() - 0.1) < 0.02)
    (2000, True)
    """

    contract: Contract
    seed: int = 0

    def sample(self, rows: int, *, seed: int = 0, start: int = 0, regimes: Sequence[Regime] = ()) -> Sample:
        """Draw rows `start` to `start + rows` of the endless stream that `seed` names.

        The contract's timeline is spread over all `start + rows` rows, so `sample(n, start=s)` gives the last n rows
        of `sample(s + n)`.

        Parameters
        ----------
        rows : int, at least 1
        seed : int, at least 0, names the stream; the world's true propensities do not depend on it
        start : int, at least 0
        regimes : changes of the world, each from row `at` of the stream on; the rows before it stay as they are

        Raises
        ------
        SourceError
            rows, start or a seed is out of range, or a regime names a column or value that can't be shifted
        """
        if rows < 1 or min(start, seed, self.seed) < 0:
            arrived = f"rows {rows}, start {start}, seed {seed} in world {self.seed}"
            raise SourceError(f"a sample needs rows >= 1, start >= 0 and seeds >= 0, got {arrived}")
        regimes = sorted(regimes, key=lambda regime: regime.at)
        self._check(regimes)
        stop = start + rows
        blocks = [
            self._block(np.arange(max(start, first), min(stop, first + BLOCK)), seed, stop, regimes)
            for first in range(start - start % BLOCK, stop, BLOCK)
        ]
        values = {name: np.concatenate([block.pop(name) for block in blocks]) for name in list(blocks[0])}
        return self._dated(np.arange(start, stop), values)

    def propensity(self, frame: pd.DataFrame, decided_at: Times) -> Floats:
        """The true propensity of given rows, in a world without regimes.

        Parameters
        ----------
        frame : DataFrame with the contract's inputs, typed as in a sample
        decided_at : ndarray of datetime64, shape (rows,); the first and the last month hold beyond the timeline

        Returns
        -------
        ndarray, shape (rows,), in (0, 1)
        """
        values = {name: untyped(frame[name]) for name in self._customers.effects}
        months = self._climate.months.first
        month = np.clip(np.searchsorted(months, decided_at.astype(months.dtype), side="right") - 1, 0, len(months) - 1)
        logit = self._intercept + self._climate.levels[month] + self._customers.logit(values, np.arange(len(frame)))
        return np.asarray(expit(logit))

    def _check(self, regimes: Sequence[Regime]) -> None:
        for shift in regimes:
            if isinstance(shift, CovariateShift | ShareShift):
                if shift.column not in self._marginals:
                    able = ", ".join(self._marginals)
                    raise SourceError(f"column {shift.column!r} can't be shifted, expected one of {able}")
                self._marginals[shift.column].shifted(shift)

    def _block(self, rows: Rows, seed: int, horizon: int, regimes: Sequence[Regime]) -> Values:
        """Compute the rows of one block, with '_propensity', '_accepted' and '_delay' (in days)."""
        numbers_of_block = self._uniform("rows", seed, int(rows[0]) // BLOCK)
        uniform = {name: numbers[rows % BLOCK] for name, numbers in numbers_of_block.items()}
        month = self._climate.months.at(rows / horizon)
        uniform |= {name: ranks[month] for name, ranks in self._climate.contexts.items()}
        values = self._columns(self._known_before, uniform, rows, regimes)
        logit = self._intercept + self._climate.levels[month] + self._customers.logit(values, rows, regimes)
        for shift in regimes:
            if isinstance(shift, RateShift):
                logit[rows >= shift.at] += shift.logits
        propensity = expit(logit)
        accepted = uniform["_accepted"] < propensity
        uniform |= {name: _leaked(uniform[name], accepted) for name in self._known_after}
        values |= self._columns(self._known_after, uniform, rows, regimes)
        delay = _delay(uniform["_delay"], self.contract.target.matures_after_days)
        return values | {"_propensity": propensity, "_accepted": accepted, "_delay": delay}

    def _columns(self, names: Sequence[str], uniform: Values, rows: Rows, regimes: Sequence[Regime] = ()) -> Values:
        return {name: self._column(name, uniform, rows, regimes) for name in names}

    def _column(self, name: str, uniform: Values, rows: Rows, regimes: Sequence[Regime]) -> Floats:
        marginal = self._marginals[name]
        values = marginal.at(uniform[name])
        for shift in regimes:
            if isinstance(shift, CovariateShift | ShareShift) and shift.column == name:
                marginal = marginal.shifted(shift)
                values = np.where(rows >= shift.at, marginal.at(uniform[name]), values)
        values[uniform[f"_{name}"] < self._missing[name]] = np.nan
        return values

    def _dated(self, rows: Rows, values: Values) -> Sample:
        moments = self._climate.months.moments(rows / (rows[-1] + 1))
        outcome = moments + (values.pop("_delay") * 86400).astype("timedelta64[s]")
        frame = {column.name: self._cells(column, rows, values, moments, outcome) for column in self.contract.columns}
        return Sample(pd.DataFrame(frame), values["_propensity"], moments, outcome)

    def _cells(
        self, column: Column, rows: Rows, values: Values, decided: Times, outcome: Times
    ) -> NDArray[Any] | pd.Categorical:
        if column.role == Role.TARGET:
            return values["_accepted"]
        if column.name in values:
            return typed(column, values.pop(column.name))
        if column.type == "date":
            days = (outcome if column.role == Role.LEAKAGE else decided).astype("datetime64[D]")
            return days.astype(NANOSECONDS)
        if column.type == "category":
            return typed(column, self._climate.months.codes(rows / (rows[-1] + 1), column.values))
        ids = _identifiers(column, rows)
        return ids.astype(str).astype(object) if column.type == "text" else typed(column, ids.astype(np.float64))

    def _rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        name = f"{self.contract.name}/{purpose}"
        return np.random.default_rng([self.seed, zlib.crc32(name.encode()), *numbers])

    def _uniform(self, purpose: str, *numbers: int) -> Values:
        """Draw a block of uniform numbers: for each column, and under '_' and its name for whether it is missing."""
        names = [*self._marginals, *(f"_{name}" for name in self._marginals), "_accepted", "_delay"]
        numbers_drawn = self._rng(purpose, *numbers).random((len(names), BLOCK))
        return dict(zip(names, numbers_drawn, strict=True))

    @cached_property
    def _marginals(self) -> "dict[str, Marginal]":
        """The columns whose values are drawn: all but target, texts, dates, identifying numbers and the month."""
        month = self.contract.time.column if self.contract.time else None
        return {
            column.name: marginal_of(_positive(column) if column.role == Role.WEIGHT else column)
            for column in self.contract.columns
            if column.role != Role.TARGET
            and column.type not in ("text", "date")
            and not (column.role == Role.IDENTIFIER and column.is_numeric)
            and column.name != month
        }

    @cached_property
    def _known_before(self) -> list[str]:
        return [name for name in self._marginals if self.contract[name].role != Role.LEAKAGE]

    @cached_property
    def _known_after(self) -> list[str]:
        return [name for name in self._marginals if self.contract[name].role == Role.LEAKAGE]

    @cached_property
    def _missing(self) -> dict[str, float]:
        """The share of missing values in each column."""
        shares = self._rng("missing").uniform(*MISSING, size=len(self._marginals))
        return {
            name: float(share) if self.contract[name].may_be_missing else 0.0
            for name, share in zip(self._marginals, shares, strict=True)
        }

    @cached_property
    def _climate(self) -> Climate:
        contexts = [name for name in self._known_before if self.contract[name].role == Role.CONTEXT]
        return Climate(self.contract, self._rng, tuple(contexts))

    @cached_property
    def _reference(self) -> Values:
        """A large sample of customers, used to standardise the effects."""
        names = [column.name for column in self.contract.inputs if column.name in self._marginals]
        names = [name for name in names if name not in self._climate.contexts]
        rows = np.arange(BLOCK)
        blocks = [self._columns(names, self._uniform("reference", k), rows) for k in range(REFERENCE_BLOCKS)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in names}

    @cached_property
    def _customers(self) -> "Customers":
        spread = self.contract.simulation.customer_spread
        return customer_effects(self._marginals, self._reference, spread, self._rng("effects"))

    @cached_property
    def _intercept(self) -> float:
        """The logit that makes the mean propensity, over customers and months, the base rate."""
        simulation = self.contract.simulation
        customers = self._customers.logit(self._reference, np.arange(BLOCK * REFERENCE_BLOCKS))
        logits = self._climate.levels[:, None] + np.sort(customers)[4::8]

        def surplus(intercept: float) -> float:
            return float(self._climate.months.shares @ expit(intercept + logits).mean(axis=1)) - simulation.base_rate

        bound = 40 + 10 * (simulation.customer_spread + simulation.period_spread)
        return float(brentq(surplus, -bound, bound))


def _positive(weight: Column) -> Column:
    return weight if weight.min is not None else weight.model_copy(update={"min": SMALLEST_WEIGHT})


def _leaked(uniform: Floats, accepted: NDArray[np.bool_]) -> Floats:
    return np.asarray(ndtr(ndtri(uniform) + LEAK * accepted))


def _delay(uniform: Floats, longest: float) -> Floats:
    """Turn uniform numbers into exponential delays with a mean of a quarter of `longest`, truncated there; in days."""
    return -longest / 4 * np.log1p(uniform * math.expm1(-4.0))


def _identifiers(column: Column, rows: Rows) -> Rows:
    """Number rows from the column's `min`, or from 1; after its `max` numbers start again."""
    first = 1 if column.min is None else math.ceil(column.min)
    return first + (rows if column.max is None else rows % (math.floor(column.max) - first + 1))
