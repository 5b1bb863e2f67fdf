"""Recommendations: candidates of a user, scored, and put in order by the policy of the market."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from offers.retrieval.arbitration import MarketPolicy, Recommended
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.ranker import AFFINITY

MOST_REASONS = 3
_POPULAR = 200
"""Orders of popularity that are remembered, one for each segment that was asked for."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Recommender:
    """Recommends a market's products by its bundle, and by the contract's section `recommendation`."""

    bundle: MarketBundle

    def __post_init__(self) -> None:
        booster = self.bundle.ranker.booster
        if isinstance(booster, xgb.Booster):
            # For some dozens of pairs the threads would wait for one another longer than they work.
            booster.set_param({"nthread": 1})

    @cached_property
    def policy(self) -> MarketPolicy:
        return MarketPolicy(self.bundle.market, self.bundle.products)

    def recommend(self, user: Floats, k: int, available: NDArray[np.bool_], key: str) -> Recommended:
        """Choose products for a user.

        Parameters
        ----------
        user : shape (columns,), a row that `MarketBundle.rows` builds
        k : places; fewer are filled where there are not as many products that the rules let pass
        available : shape (n_products,)
        key : of the decision
        """
        candidates, propensity = self.bundle.scored(
            user[None], max(self.bundle.market.retrieval.candidates, k), available
        )
        return self.policy.arbitrate(user, candidates[0], propensity[0], k, key)

    def popular(self, segment: Mapping[str, str] | None, k: int, available: NDArray[np.bool_]) -> Recommended:
        """Choose products for a user of whom nothing is known, or nothing but the segment, by popularity."""
        key = tuple(sorted((segment or {}).items()))
        places = self._orders.get(key)
        if places is None:
            if len(self._orders) >= _POPULAR:
                self._orders.clear()
            places = self._orders[key] = self.bundle.popular(segment, len(self.bundle.product_ids))
        return self.policy.popular(places[available[places]], k)

    def sentences(self, user: Floats, recommended: Recommended) -> list[tuple[str, ...]]:
        """Say for each offer which inputs move its propensity most, and by how many log-odds.

        Affinity is compared with the user's mean over all products.
        """
        if not recommended.offers:
            return []
        bundle, users, places = self.bundle, user[None], recommended.candidates[list(recommended.offers)]
        every = None if bundle.towers is None else bundle.affinity(users)
        affinity, usual = (None, 0.0) if every is None else (every[:, places], float(every.mean()))
        inputs = bundle.ranker.inputs
        matrix = inputs.matrix(users, places[None], affinity)
        contributions = bundle.ranker.contributions(matrix, affinity, usual)
        names = inputs.names(affinity is not None)
        return [tuple(_told(names, self._words, row, parts)) for row, parts in zip(matrix, contributions, strict=True)]

    @cached_property
    def _words(self) -> dict[str, Sequence[str]]:
        """The words of each input that is not a number."""
        market = self.bundle.market
        words: dict[str, Sequence[str]] = {one.name: one.values for one in market.columns if one.values}
        truths = [one.name for one in market.columns if one.type == "boolean"]
        truths += [pair.name for pair in market.pairs if pair.measure in ("at_least", "equal")]
        return words | dict.fromkeys(truths, ("no", "yes"))

    @cached_property
    def _orders(self) -> dict[tuple[tuple[str, str], ...], NDArray[np.int64]]:
        return {}


def _told(
    names: Sequence[str], words: Mapping[str, Sequence[str]], row: Floats, contributions: NDArray[np.floating]
) -> Iterator[str]:
    for place in np.argsort(-np.abs(contributions[: len(names)]))[:MOST_REASONS]:
        name, verb = names[place], "raises" if contributions[place] > 0 else "lowers"
        value = "" if name == AFFINITY else f" ({_shown(row[place], words.get(name, ()))})"
        yield f"{name}{value} {verb} the log-odds by {abs(contributions[place]):.2f}"


def _shown(value: np.float32, words: Sequence[str]) -> str:
    if np.isnan(value):
        return "missing"
    return words[int(value)] if words else f"{value:g}"
