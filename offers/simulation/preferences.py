"""The users and products of a simulated market, and the utility of each pair of them."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market, Pair
from offers.contract.pairs import pair_values
from offers.simulation.arrays import Floats, Rows, Values
from offers.simulation.shifts import TasteShift
from offers.simulation.tastes import DIMENSIONS, Side

USERS = 2048
"""Users of a block; each block has generators of its own, so a user is the same in a market of any number of users."""

EARLIER = 1095
"""How many days before the first one the users and products that are there from the start have come, at most."""

PAIR = 0.5
"""What a standard deviation of a contract's pair adds to the utility."""

_FITTED = 10_000
"""Products over which pairs are standardised, at most."""

DAY = 86400


@dataclass(frozen=True, eq=False)
class People:
    """Some users: the moment at which each joined, in seconds of the market, their columns and their vectors."""

    joined: Rows
    values: Values
    vectors: Floats

    def __getitem__(self, places: slice | Rows) -> "People":
        values = {name: column[places] for name, column in self.values.items()}
        return People(self.joined[places], values, self.vectors[places])


@dataclass(frozen=True, eq=False)
class Preferences:
    """The users and products of a market, and the utility of each pair."""

    market: Market
    seed: int
    shifts: Sequence[TasteShift]

    def rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.market.name}/{purpose}".encode()), *numbers])

    def block(self, number: int) -> People:
        """Draw block `number` of users, which begins with user `USERS * number`."""
        rng = self.rng("users", number)
        arrivals = self._arrivals(rng, USERS, self.market.simulation.new_users)
        values = self._user_side.values(rng, USERS)
        return People(arrivals, values, self._user_side.vectors(values, rng))

    def people(self, users: Rows) -> People:
        """Draw the users with these ids."""
        numbers, place = np.unique(users // USERS, return_inverse=True)
        parts = [self.block(int(number)) for number in numbers]
        rows = place * USERS + users % USERS
        values = {name: np.concatenate([part.values[name] for part in parts])[rows] for name in parts[0].values}
        arrivals = np.concatenate([part.joined for part in parts])[rows]
        return People(arrivals, values, np.concatenate([part.vectors for part in parts])[rows])

    def utility(self, people: People, day: float) -> Floats:
        """Compute the utility of each product to each user on a day, shape (users, products)."""
        signs = np.ones(DIMENSIONS)
        for shift in self.shifts:
            if day >= shift.day:
                signs[: round(shift.share * DIMENSIONS)] *= -1
        taste = self.market.simulation.taste / math.sqrt(DIMENSIONS)
        utility = taste * ((people.vectors * signs) @ self._appeals.T) + self.popularity
        for place, pair in enumerate(self.market.pairs):
            mean, sigma = self._pair_scales[place]
            utility += PAIR * np.nan_to_num((self._fit(pair, people, None) - mean) / sigma)
        return np.asarray(utility)

    def allowed(self, people: People) -> NDArray[np.bool_]:
        """Mark the pairs that may be approved: the user reaches the product's requirements, or a value is missing."""
        users = {name: values[:, None] for name, values in people.values.items()}
        return self._allowed(users, self.product_values, (len(people.joined), len(self.launched)))

    def allowed_of(self, people: People, products: Rows) -> NDArray[np.bool_]:
        """Do the same for pairs of one person and one product each, shape (pairs,)."""
        columns = {name: values[products] for name, values in self.product_values.items()}
        return self._allowed(people.values, columns, products.shape)

    @cached_property
    def product_values(self) -> Values:
        return self._product_side.values(self.rng("products"), self.market.simulation.products)

    @cached_property
    def launched(self) -> Rows:
        """The moment of each product's launch, in seconds of the market."""
        simulation = self.market.simulation
        return self._arrivals(self.rng("launches"), simulation.products, simulation.new_products)

    @cached_property
    def popularity(self) -> Floats:
        """Each product's part of the utility that is the same for all users."""
        simulation = self.market.simulation
        return simulation.popularity * self.rng("popularity").standard_normal(simulation.products)

    @cached_property
    def seasons(self) -> Floats:
        """The phase of each product's season, in [0, 1), which depends on the product's first category column."""
        kinds = [one for one in self.market.product_columns if one.type == "category"]
        phases = self.rng("seasons").random(1 + (len(kinds[0].values) if kinds else 0))
        if not kinds:
            return np.full(len(self.launched), phases[0])
        codes = self.product_values[kinds[0].name]
        return phases[np.where(np.isnan(codes), -1, codes).astype(np.intp)]

    @cached_property
    def _user_side(self) -> Side:
        return Side(self.market.user_columns, self.market.simulation.private, self.rng)

    @cached_property
    def _product_side(self) -> Side:
        return Side(self.market.product_columns, self.market.simulation.private, self.rng)

    @cached_property
    def _appeals(self) -> Floats:
        return self._product_side.vectors(self.product_values, self.rng("appeals"))

    @cached_property
    def _pair_scales(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each pair column's fit, over the first block, and the first products."""
        people, scales = self.block(0), []
        for pair in self.market.pairs:
            fit = self._fit(pair, people, _FITTED)
            scales.append((float(np.nanmean(fit)), float(np.nanstd(fit)) or 1.0))
        return scales

    def _allowed(self, users: Values, products: Values, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        allowed = np.ones(shape, np.bool_)
        for pair in self.market.pairs:
            if pair.measure == "at_least":
                allowed &= pair_values(self.market, pair, users, products) != 0
        return allowed

    def _fit(self, pair: Pair, people: People, number: int | None) -> Floats:
        """Compute how well users and the first products fit by one pair column; higher is better, NaN if not known."""
        users = {name: values[:, None] for name, values in people.values.items()}
        products = {name: values[:number] for name, values in self.product_values.items()}
        values = pair_values(self.market, pair, users, products)
        if pair.measure == "difference":
            return -np.abs(values)
        if pair.measure == "ratio":
            return -np.abs(np.log(np.where(values > 0, values, np.nan)))
        return values

    def _arrivals(self, rng: np.random.Generator, rows: int, new: float) -> Rows:
        """Draw the moments at which users or products arrive; the share `new` arrives after the market's start."""
        later, moment = rng.random(rows) < new, rng.random(rows)
        days = np.where(later, moment * self.market.simulation.days, -moment * EARLIER)
        return np.asarray(np.ceil(days * DAY), np.int64)
