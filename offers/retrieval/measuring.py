"""Measures how well scores of products foretell views, with intervals over users."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offers.evaluation.figures import Figure
from offers.retrieval.baselines import Scorer
from offers.retrieval.nearest import highest
from offers.retrieval.views import Views

FIRST = 10
"""Products that a user is shown, for recall, NDCG and coverage."""

DRAWS = 200
BLOCK, SCORES = 8192, 1 << 23
"""Views that are scored at once, and scores; whichever are fewer."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where the product of each view stood among those that were there, from 0 on, and which products came first."""

    ranks: NDArray[np.int64]
    shown: NDArray[np.bool_]


def rank_views(scorer: Scorer, views: Views, launched: NDArray[np.int64]) -> Ranks:
    """Rank the product of each view; products that are launched later do not count.

    Parameters
    ----------
    launched : microseconds since 1970 of each product's launch
    """
    ranks, shown = np.empty(len(views), np.int64), np.zeros(len(launched), np.bool_)
    step = max(1, min(BLOCK, SCORES // len(launched)))
    for start in range(0, len(views), step):
        part = views[start : start + step]
        chosen = part.product.astype(np.int64)[:, None]
        there = launched <= part.moment[:, None]
        np.put_along_axis(there, chosen, True, axis=1)
        scores = np.where(there, scorer(part), -np.inf)
        own = np.take_along_axis(scores, chosen, axis=1)
        # Half of those with the same score stand before it.
        ties = ((scores == own).sum(axis=1) - 1) // 2
        ranks[start : start + step] = (scores > own).sum(axis=1) + ties
        shown[highest(scores, FIRST).ravel()] = True
    return Ranks(ranks, shown)


@dataclass(frozen=True, eq=False)
class UserSample:
    """Resamples of users, for the intervals of weighted means over views.

    Parameters
    ----------
    users : the number of each view's user
    weights : of the views
    seed : of the resamples
    """

    users: NDArray[np.int32]
    weights: NDArray[np.float64]
    seed: int

    def means(
        self, values: Mapping[str, NDArray[np.float64]], among: NDArray[np.bool_] | None = None
    ) -> dict[str, Figure]:
        """Average values of views, with 95 % percentile intervals over users; empty where there are no views.

        Parameters
        ----------
        values : of each view, by name
        among : the views that count; all by default
        """
        weights = self.weights if among is None else self.weights * among
        _, places = np.unique(self.users, return_inverse=True)
        total = np.bincount(places, weights)
        if not total.sum() > 0:
            return {}
        number = len(total)
        sums = np.stack([np.bincount(places, weights * one, number) for one in values.values()], axis=1)
        rng = np.random.default_rng(self.seed)
        draws = np.empty((DRAWS, len(values)))
        for draw in range(DRAWS):
            counts = np.bincount(rng.integers(0, number, number), minlength=number)
            # Small groups may be missing from a resample.
            weight = counts @ total
            draws[draw] = counts @ sums / weight if weight > 0 else np.nan
        lows, highs = np.nanpercentile(draws, [2.5, 97.5], axis=0)
        centre = sums.sum(axis=0) / total.sum()
        return {
            name: Figure(value=round(float(value), 6), low=round(float(low), 6), high=round(float(high), 6))
            for name, value, low, high in zip(values, centre, lows, highs, strict=True)
        }


def hits(ranks: Ranks, count: int) -> NDArray[np.float64]:
    """Mark the views whose product is among the first `count`."""
    return (ranks.ranks < count).astype(np.float64)


def gains(ranks: Ranks) -> NDArray[np.float64]:
    """Compute the discounted gain of each view, 1 / log2(2 + rank) among the first FIRST; the ideal is 1."""
    return np.where(ranks.ranks < FIRST, 1 / np.log2(2.0 + ranks.ranks), 0.0)
