"""The months of a simulated world: a level of acceptance for each, and context columns that follow it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from offers.contract.contract import Contract
from offers.simulation.arrays import Floats, Values
from offers.simulation.timeline import Months, calendar

SIZES = (0.6, 1.4)
"""Range of a month's rows, relative to others."""

CYCLE, NOISE = 9.0, 0.15
"""Length, in months, of the wave in the months' levels, and noise on it. Being no divisor of 12, it gives a month of
the year other levels from year to year: what was learnt of 'May' goes stale."""

FOLLOWING, WANDER = 0.45, 2.0
"""Correlation of context columns with the months' levels; how far, in months, they wander from their trend."""


@dataclass(frozen=True, eq=False)
class Climate:
    """The months of a world; `rng` gives a generator for each purpose, `columns` are its context columns."""

    contract: Contract
    rng: Callable[[str], np.random.Generator]
    columns: tuple[str, ...]

    @cached_property
    def months(self) -> Months:
        first = calendar(self.contract)
        sizes = self.rng("sizes").uniform(*SIZES, size=len(first))
        return Months(first, np.cumsum(sizes) / sizes.sum())

    @cached_property
    def path(self) -> Floats:
        """The level of each month, with mean 0 and standard deviation 1 over rows."""
        rng, months = self.rng("path"), np.arange(len(self.months.first))
        wave = math.sqrt(2) * np.sin(2 * np.pi * (months / CYCLE + rng.uniform()))
        return self.months.standardised(wave + NOISE * rng.standard_normal(len(months)))

    @cached_property
    def levels(self) -> Floats:
        """The term that each month adds to the logit."""
        spread = self.contract.simulation.period_spread if self.contract.time else 0.0
        return spread * self.path

    @cached_property
    def contexts(self) -> Values:
        """For contracts with time: the rank, in (0, 1), of each context column's value in each month."""
        if self.contract.time is None:
            return {}
        rng = self.rng("contexts")
        return {name: np.asarray(ndtr(self._context(rng))) for name in self.columns}

    def _context(self, rng: np.random.Generator) -> Floats:
        months = np.arange(len(self.path))
        trend = self.months.standardised(months + WANDER * rng.standard_normal(len(months)))
        turning = np.cos(np.pi * months / len(months))
        weights = rng.choice([-1.0, 1.0], size=2) * (FOLLOWING, math.sqrt(1 - FOLLOWING**2))
        return np.asarray(weights @ (turning * self.path, trend))
