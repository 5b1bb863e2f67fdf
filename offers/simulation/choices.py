"""How simulated users choose: the list that they see, the product that they view, and the events that follow."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from offers.contract.market import Event
from offers.simulation.arrays import Floats, Rows

SLOPE = 0.8
"""How much the log-odds of going on rise with a standard deviation of the viewed products' utility."""

_BOUND = 30.0


@dataclass(frozen=True, eq=False)
class Listing:
    """The list of a session. In half of all sessions a product is at its rank, in the others at a random position.

    A user looks at a position with the probability position^-bias.

    Examples
    --------
    >>> Listing(np.array([1, 2]), bias=1.0).looked_at.tolist()
    [0.875, 0.625]
    """

    ranks: NDArray[np.int64]
    bias: float

    @cached_property
    def looked_at(self) -> Floats:
        """The probability that a user looks at a product, over all sessions; shape (products,)."""
        return np.asarray((self._at(self.ranks) + self._anywhere.mean()) / 2)

    def positions(self, products: Rows, rng: np.random.Generator) -> Rows:
        """Draw the positions of products that a user looked at."""
        at_rank = rng.random(len(products)) < self._at(self.ranks[products]) / 2 / self.looked_at[products]
        ends = np.cumsum(self._anywhere) / self._anywhere.sum()
        anywhere = np.searchsorted(ends[:-1], rng.random(len(products)), side="right") + 1
        return np.where(at_rank, self.ranks[products], anywhere)

    @cached_property
    def _anywhere(self) -> Floats:
        return self._at(np.arange(1, len(self.ranks) + 1))

    def _at(self, positions: NDArray[np.int64]) -> Floats:
        return positions.astype(np.float64) ** -self.bias


@dataclass(frozen=True)
class Funnel:
    """The probability of each event after the first, given the event before.

    Its log-odds are an intercept plus SLOPE times the utility, standardised by `centre` and `scale`. The last event
    never follows for a pair that is not allowed.
    """

    intercepts: Mapping[str, float]
    centre: float
    scale: float

    def chances(self, utility: Floats, allowed: NDArray[np.bool_]) -> dict[str, Floats]:
        chances = {name: expit(level + self.margin(utility)) for name, level in self.intercepts.items()}
        if chances:
            last = next(reversed(chances))
            chances[last] = chances[last] * allowed
        return chances

    def margin(self, utility: Floats) -> Floats:
        return SLOPE * (utility - self.centre) / self.scale


def fit_funnel(events: tuple[Event, ...], utility: Floats, allowed: NDArray[np.bool_]) -> Funnel:
    """Fit a funnel on a sample of views, so that each event follows its `typical` share of the events before."""
    funnel = Funnel({}, float(utility.mean()), float(utility.std()) or 1.0)
    margin, reached = funnel.margin(utility), np.ones(len(utility))
    intercepts: dict[str, float] = {}
    for event in events[1:]:
        able = allowed if event is events[-1] else np.ones(len(utility), np.bool_)
        share = event.typical or 0.0
        intercepts[event.name] = level = _intercept(margin, reached * able, share * reached.sum())
        reached = reached * able * expit(level + margin)
    return Funnel(intercepts, funnel.centre, funnel.scale)


def _intercept(margin: Floats, weight: Floats, rate: float) -> float:
    """Find the intercept with which `rate` of the weighted rows go on; all go on where there are too few."""

    def surplus(level: float) -> float:
        return float(weight @ expit(level + margin)) - rate

    return float(brentq(surplus, -_BOUND, _BOUND)) if surplus(_BOUND) > 0 else _BOUND


def chosen(weights: Floats, rows: Rows, uniform: Floats) -> Rows:
    """Draw a column for each of `rows`, with probabilities proportional to the weights of that row.

    Examples
    --------
    >>> chosen(np.array([[1.0, 1.0], [0.0, 5.0]]), np.array([0, 0, 1]), np.array([0.4, 0.6, 0.1])).tolist()
    [0, 1, 1]
    """
    ends = np.cumsum(weights, axis=1)
    ends /= ends[:, -1:]
    ends += np.arange(len(weights))[:, None]
    places = np.searchsorted(ends.ravel(), rows + uniform, side="right") - rows * weights.shape[1]
    return np.asarray(np.minimum(places, weights.shape[1] - 1))
