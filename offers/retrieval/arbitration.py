"""The policy of a market: which candidates a user may be shown, and in which order, by the contract's rules."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market, Pair
from offers.contract.pairs import pair_values
from offers.data.online import OnlineUsers
from offers.policy.exploration import uniform
from offers.retrieval.products import Products, values_of

REQUIRED, CROWDED, BEYOND = "REQUIRED", "MOST_PER_FAMILY", "BEYOND_K"
BEST, DRAWN, NEXT, POPULAR = "HIGHEST_SCORE", "DRAWN_TO_EXPLORE", "BY_SCORE", "POPULAR"

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Recommended:
    """The decision for one user. Lists and arrays have one entry for each candidate, unless they say otherwise.

    Attributes
    ----------
    candidates : places of products
    propensity : NaN in a cold start
    value : margin of an acceptance
    score : the expected value of showing the product, propensity times value; NaN in a cold start
    first : the probability with which the policy puts the product first
    offers : the candidates in the answer, by number, the best first
    why : one code for each of the offers
    withheld : codes of each candidate that is not in the answer, by its number
    """

    candidates: NDArray[np.int64]
    propensity: NDArray[np.float64]
    value: NDArray[np.float64]
    score: NDArray[np.float64]
    first: NDArray[np.float64]
    offers: Sequence[int]
    why: Sequence[str]
    withheld: Mapping[int, tuple[str, ...]]

    @property
    def counts(self) -> dict[str, int]:
        """How many candidates are withheld by each code."""
        return dict(sorted(Counter(code for codes in self.withheld.values() for code in codes).items()))


@dataclass(frozen=True, eq=False)
class MarketPolicy:
    """The contract's section `recommendation`, applied to products."""

    market: Market
    products: Products

    def arbitrate(
        self, user: Floats, candidates: NDArray[np.int64], propensity: NDArray[np.float64], k: int, key: str
    ) -> Recommended:
        """Choose among scored candidates.

        Parameters
        ----------
        user : shape (columns,), a row that `MarketBundle.rows` builds
        candidates, propensity : places of products, and their probability of acceptance, shape (n,)
        k : places; fewer are filled where there are not as many products that the rules let pass
        key : of the decision; the same key explores in the same way
        """
        value, explore = self.value[candidates], self.market.recommendation.explore
        score = propensity * value
        codes = self._broken(user, candidates)
        order = np.argsort(-score, kind="stable").tolist()
        order, first, drawn = [one for one in order if one not in codes], np.zeros(len(candidates)), False
        if order:
            first[order], drawn = explore / len(order), uniform("explore", key) < explore
            first[order[0]] += 1 - explore
        if drawn:
            order.insert(0, order.pop(int(uniform("place", key) * len(order))))
        offers, crowded = self._diverse(order, candidates, k)
        codes |= dict.fromkeys(crowded, (CROWDED,))
        shown = {*offers, *crowded}
        codes |= {one: (BEYOND,) for one in order if one not in shown}
        why = [DRAWN if drawn else BEST, *[NEXT] * (len(offers) - 1)][: len(offers)]
        return Recommended(candidates, propensity, value, score, first, offers, why, codes)

    def popular(self, candidates: NDArray[np.int64], k: int) -> Recommended:
        """Choose for a user of whom nothing is known, or who can't be scored; candidates are in order of popularity."""
        offers, crowded = self._diverse(range(len(candidates)), candidates, k)
        # What lies behind the last place was not looked at.
        candidates = candidates[: max([*offers, *crowded], default=-1) + 1]
        nothing, first = np.full(len(candidates), np.nan), np.zeros(len(candidates))
        first[offers[:1]] = 1.0
        withheld = dict.fromkeys(crowded, (CROWDED,))
        value, why = self.value[candidates], [POPULAR] * len(offers)
        return Recommended(candidates, nothing, value, nothing, first, offers, why, withheld)

    @cached_property
    def value(self) -> NDArray[np.float64]:
        """The margin of an acceptance of each product; 1 where the contract names none, 0 where it is missing."""
        # Products have numbers of 32 bits, which would show 139.7 as 139.6999969.
        return np.round(values_of(self.market, self.products), 4)

    @cached_property
    def _families(self) -> list[object]:
        family = self.market.recommendation.family
        return list(self.products.columns[family]) if family else list(self.products.ids)

    @cached_property
    def _required(self) -> list[tuple[Pair, int, Floats]]:
        """Each required pair, with the place of its user's column, and the values of its product's column."""
        users, products = OnlineUsers(self.market).encoder.names, self.products
        pairs = [pair for pair in self.market.pairs if pair.name in self.market.recommendation.required]
        columns = [products.matrix[:, products.encoder.names.index(pair.product)] for pair in pairs]
        return [(pair, users.index(pair.user), column) for pair, column in zip(pairs, columns, strict=True)]

    def _broken(self, user: Floats, candidates: NDArray[np.int64]) -> dict[int, tuple[str, ...]]:
        """List for candidates the required pairs that do not hold."""
        broken = dict[int, tuple[str, ...]]()
        for pair, place, column in self._required:
            values = pair_values(self.market, pair, {pair.user: user[place]}, {pair.product: column[candidates]})
            for one in np.flatnonzero(values == 0).tolist():
                broken[one] = (*broken.get(one, ()), f"{REQUIRED}:{pair.name}")
        return broken

    def _diverse(self, order: Iterable[int], candidates: NDArray[np.int64], k: int) -> tuple[list[int], list[int]]:
        """Fill k places in order with so many of a family as may be; returns them, and what was passed over."""
        most, places = self.market.recommendation.most_per_family, candidates.tolist()
        counts, chosen, crowded = dict[object, int](), list[int](), list[int]()
        for one in order:
            if len(chosen) == k:
                break
            family = self._families[places[one]]
            if counts.get(family, 0) >= most:
                crowded.append(one)
                continue
            counts[family] = counts.get(family, 0) + 1
            chosen.append(one)
        return chosen, crowded
