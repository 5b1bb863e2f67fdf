"""The tastes of simulated users and the appeals of products: a vector for each, which depends on their columns."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from offers.contract.column import Column
from offers.simulation.arrays import Floats, Values
from offers.simulation.marginals import Marginal, Range, marginal_of

DIMENSIONS = 8
"""Length of a vector."""

MISSING = 0.05
"""Share of missing values in a column that may be missing."""

FARTHEST = 3.0
"""A number counts for at most this many standard deviations, so that one very rich user does not dominate."""


@dataclass(frozen=True, eq=False)
class Side:
    """The users of a market, or its products: their columns, and the direction of each column's effect on the vector.

    A vector is a sum over columns: a number adds its standardised value times a direction, and a label adds a direction
    of its own. The share `private` of the variance depends on no column. Each component has mean 0 and variance 1.
    """

    columns: tuple[Column, ...]
    private: float
    rng: Callable[[str], np.random.Generator]

    def values(self, rng: np.random.Generator, rows: int) -> Values:
        """Draw values of all columns: codes of categories, NaN where missing."""
        draws = rng.random((2, len(self.columns), rows))
        values = {}
        for column, uniform, missing in zip(self.columns, *draws, strict=True):
            values[column.name] = self._marginals[column.name].at(uniform)
            if column.may_be_missing:
                values[column.name][missing < MISSING] = np.nan
        return values

    def vectors(self, values: Values, rng: np.random.Generator) -> Floats:
        """Compute the vectors of rows, shape (rows, DIMENSIONS)."""
        rows = len(values[self.columns[0].name])
        of_columns = np.zeros((rows, DIMENSIONS))
        for column in self.columns:
            directions = self._directions[column.name]
            of_columns += _seen(self._marginals[column.name], values[column.name]) @ directions
        of_columns /= math.sqrt(len(self.columns))
        own = rng.standard_normal((rows, DIMENSIONS))
        return math.sqrt(1 - self.private) * of_columns + math.sqrt(self.private) * own

    @cached_property
    def _marginals(self) -> dict[str, Marginal]:
        return {column.name: marginal_of(column) for column in self.columns}

    @cached_property
    def _directions(self) -> dict[str, Floats]:
        directions = {}
        for name, marginal in self._marginals.items():
            labels = 1 if isinstance(marginal, Range) else len(marginal.labels)
            draws = self.rng(f"directions of {name}").standard_normal((labels, DIMENSIONS))
            directions[name] = draws if isinstance(marginal, Range) else _standardised(draws, marginal.shares)
        numbers = [directions[name] for name, marginal in self._marginals.items() if isinstance(marginal, Range)]
        # All dimensions have the same variance, so that a shift of some of them has a known size.
        sigma = np.sqrt(np.mean(np.square(numbers), axis=0)) if numbers else 1.0
        return {
            name: one / sigma if isinstance(self._marginals[name], Range) else one for name, one in directions.items()
        }


def _seen(marginal: Marginal, values: Floats) -> Floats:
    """Compute the factors of a column's directions, shape (rows, 1 or labels); 0 for a missing value."""
    unknown = np.isnan(values)
    if isinstance(marginal, Range):
        standardised = (values - _mean(marginal)) / (marginal.sigma or 1.0)
        return np.where(unknown, 0.0, np.clip(standardised, -FARTHEST, FARTHEST))[:, None]
    hot = values[:, None] == np.arange(len(marginal.labels))
    return np.where(unknown[:, None], 0.0, hot.astype(np.float64))


def _mean(marginal: Range) -> float:
    return float(np.nanmean(marginal.at((np.arange(4096) + 0.5) / 4096)))


def _standardised(directions: Floats, shares: Sequence[float]) -> Floats:
    """Scale the labels' directions to mean 0 and variance 1 over the labels' shares."""
    weights = np.asarray(shares)[:, None]
    centred = directions - (weights * directions).sum(axis=0)
    sigma = np.sqrt((weights * centred**2).sum(axis=0))
    return np.asarray(centred / np.where(sigma > 0, sigma, 1.0))
