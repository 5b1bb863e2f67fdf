"""Recommendations: candidates of a user, scored, kept to the contract's rules, and put in order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from offers.contract.pairs import pair_values
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.ranker import AFFINITY

MOST_REASONS = 3

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """A product in an answer, or withheld from it.

    `score` is the expected value of showing it, its propensity times its value; both are None in a cold start, where
    products stand in the order of popularity. `first` is the probability with which the policy puts it first.
    """

    product: str
    propensity: float | None
    value: float
    score: float | None
    first: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Recommended:
    """The answer for one user: the best first; candidates that were withheld; and the candidates' propensities."""

    offers: Sequence[Place]
    withheld: Sequence[Place]
    candidates: Sequence[str]
    propensity: Sequence[float | None]


@dataclass(frozen=True, eq=False)
class Recommender:
    """Recommends a market's products by its bundle, and by the contract's section `recommendation`."""

    bundle: MarketBundle

    def __post_init__(self) -> None:
        booster = self.bundle.ranker.booster
        if isinstance(booster, xgb.Booster):
            # For some dozens of pairs the threads would wait for one another longer than they work.
            booster.set_param({"nthread": 1})

    def recommend(
        self, user: Floats, k: int, available: NDArray[np.bool_], chance: np.random.Generator, explain: bool = False
    ) -> Recommended:
        """Choose products for a user.

        Parameters
        ----------
        user : shape (columns,), a row of the online store
        k : places; fewer are filled where there are not as many products that the rules let pass
        available : shape (n_products,)
        chance : draws whether and what is explored
        explain : whether the offers have reasons in sentences, too
        """
        bundle, settings = self.bundle, self.bundle.market.recommendation
        users = user[None]
        places = bundle.candidates(users, max(bundle.market.retrieval.candidates, k), available)
        propensity = bundle.propensity(users, places)[0]
        places, values = places[0], self._values[places[0]]
        scores = propensity * values
        broken = self._broken(users, places)
        order = [int(place) for place in np.argsort(-scores, kind="stable") if not broken[place]]
        first = np.zeros(len(places))
        if order:
            first[order], drawn = settings.explore / len(order), chance.random() < settings.explore
            first[order[0]] += 1 - settings.explore
            if drawn:
                order.insert(0, order.pop(int(chance.integers(len(order)))))
        else:
            drawn = False
        offers, surplus = self._diverse(order, places, k)
        withheld = {place: tuple(f"REQUIRED:{name}" for name in names) for place, names in enumerate(broken) if names}
        withheld |= dict.fromkeys(surplus, ("MOST_PER_FAMILY",))
        withheld |= dict.fromkeys(
            [place for place in order if place not in offers and place not in withheld], ("BEYOND_K",)
        )
        told = self._sentences(users, places[offers]) if explain and offers else [()] * len(offers)

        def place(candidate: int, reasons: tuple[str, ...]) -> Place:
            chances, worth = float(propensity[candidate]), float(values[candidate])
            product, score = bundle.product_ids[places[candidate]], float(scores[candidate])
            return Place(product, chances, worth, score, float(first[candidate]), reasons)

        why = ["DRAWN_TO_EXPLORE" if drawn else "HIGHEST_SCORE", *["BY_SCORE"] * len(offers)]
        return Recommended(
            [place(one, (reason, *sentences)) for one, reason, sentences in zip(offers, why, told, strict=False)],
            [place(one, reasons) for one, reasons in withheld.items()],
            [bundle.product_ids[one] for one in places],
            [float(one) for one in propensity],
        )

    def popular(self, segment: Mapping[str, object] | None, k: int, available: NDArray[np.bool_]) -> Recommended:
        """Choose products for a user of whom nothing is known, or nothing but the segment, by popularity."""
        places = self.bundle.popular(segment, len(self.bundle.product_ids))
        places = places[available[places]]
        offers, _ = self._diverse(range(len(places)), places, k)
        ids = [self.bundle.product_ids[places[one]] for one in offers]
        chosen = [
            Place(one, None, float(self._values[places[place]]), None, float(not rank), ("POPULAR",))
            for rank, (one, place) in enumerate(zip(ids, offers, strict=True))
        ]
        return Recommended(chosen, [], ids, [None] * len(ids))

    @cached_property
    def _values(self) -> NDArray[np.float64]:
        name, ids = self.bundle.market.value, self.bundle.product_ids
        if name is None:
            return np.ones(len(ids))
        # The bundle has them as numbers of 32 bits, which would show 139.7 as 139.6999969.
        return np.asarray(np.round(np.nan_to_num(self.bundle.product_columns[name]), 4), np.float64)

    @cached_property
    def _families(self) -> list[object]:
        family = self.bundle.market.recommendation.family
        return list(self.bundle.product_columns[family]) if family else list(self.bundle.product_ids)

    def _broken(self, users: Floats, places: NDArray[np.int64]) -> list[list[str]]:
        """List for each candidate the required pairs that do not hold."""
        broken: list[list[str]] = [[] for _ in places]
        inputs = self.bundle.ranker.inputs
        user = {name: users[:, place] for place, name in enumerate(inputs.users.names)}
        encoder, matrix = self.bundle.products.encoder, self.bundle.products.matrix[places]
        products = {name: matrix[:, place] for place, name in enumerate(encoder.names)}
        for pair in self.bundle.market.pairs:
            if pair.name in self.bundle.market.recommendation.required:
                for place in np.flatnonzero(pair_values(self.bundle.market, pair, user, products) == 0):
                    broken[place].append(pair.name)
        return broken

    def _diverse(self, order: Sequence[int], places: NDArray[np.int64], k: int) -> tuple[list[int], list[int]]:
        """Fill k places in order with so many of a family as may be; returns them, and what was passed over."""
        most = self.bundle.market.recommendation.most_per_family
        counts, chosen, surplus = dict[object, int](), list[int](), list[int]()
        for one in order:
            if len(chosen) == k:
                break
            family = self._families[places[one]]
            if counts.get(family, 0) >= most:
                surplus.append(one)
                continue
            counts[family] = counts.get(family, 0) + 1
            chosen.append(one)
        return chosen, surplus

    def _sentences(self, users: Floats, places: NDArray[np.int64]) -> list[tuple[str, ...]]:
        """Say for each product which inputs move its propensity most, and by how many log-odds.

        Affinity is compared with the user's mean over all products.
        """
        bundle = self.bundle
        every = None if bundle.towers is None else bundle.affinity(users)
        affinity, usual = (None, 0.0) if every is None else (every[:, places], float(every.mean()))
        inputs = bundle.ranker.inputs
        matrix = inputs.matrix(users, places[None], affinity)
        contributions = bundle.ranker.contributions(matrix, affinity, usual)
        names = inputs.names(affinity is not None)
        return [tuple(_told(names, row, parts)) for row, parts in zip(matrix, contributions, strict=True)]


def _told(names: Sequence[str], row: Floats, contributions: NDArray[np.floating]) -> Iterator[str]:
    for place in np.argsort(-np.abs(contributions[: len(names)]))[:MOST_REASONS]:
        verb = "raises" if contributions[place] > 0 else "lowers"
        value = "" if names[place] == AFFINITY else " (missing)" if np.isnan(row[place]) else f" ({row[place]:g})"
        yield f"{names[place]}{value} {verb} the log-odds by {abs(contributions[place]):.2f}"
