"""A simulated market of any size: seeded, drawn block by block, and with known true preferences of all pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offers.contract.market import Market
from offers.errors import SourceError
from offers.simulation.arrays import Floats, Rows, Times
from offers.simulation.cells import typed
from offers.simulation.choices import Funnel, Listing, chosen, fit_funnel
from offers.simulation.preferences import DAY, USERS, People, Preferences
from offers.simulation.shifts import TasteShift

YEAR = 365.25 * DAY

_PREFERENCES = 1 << 24
"""Preferences that are held at once."""


@dataclass(frozen=True, eq=False)
class Block:
    """Users and their events in time order, as tables of the contract."""

    users: pd.DataFrame
    interactions: pd.DataFrame


@dataclass(frozen=True, eq=False)
class _Views:
    """Views, by place of the user in the block and of the product in the catalogue; moments in seconds."""

    users: Rows
    products: Rows
    moments: Rows
    utility: Floats

    def __getitem__(self, rows: NDArray[np.bool_]) -> "_Views":
        return _Views(self.users[rows], self.products[rows], self.moments[rows], self.utility[rows])


@dataclass(frozen=True, eq=False)
class SimulatedMarket:
    """A market's simulated users and products; `seed` determines everything about them.

    A user has a taste and a product an appeal, which are vectors that depend on their columns and on chance. The
    utility of a pair is `taste` times their match, plus `popularity` times the product's general appeal, plus terms for
    the contract's pairs. The probability that a user views a product is proportional to exp(utility) and to the
    probability of looking at its position in the list, position^-`position_bias`. It is 0 before the launch, and lower
    out of season. Each later event follows the one before with a probability that rises with utility, after an
    exponential delay. Events after the last day are left out.

    Parameters
    ----------
    shifts : changes of the users' tastes, each effective from its day on

    Raises
    ------
    SourceError
        the seed is negative, or a shift's share is not in [0, 1]

    Examples
    --------
    >>> from offers.contract.market import load
    >>> market = SimulatedMarket(load("fintech"), seed=1)
    >>> market.preference(np.array([42])).shape, len(market.products)
    ((1, 100), 100)
    """

    market: Market
    seed: int = 0
    shifts: Sequence[TasteShift] = ()

    def __post_init__(self) -> None:
        if self.seed < 0 or not all(0 <= shift.share <= 1 for shift in self.shifts):
            arrived = f"got seed {self.seed} and {list(self.shifts)}"
            raise SourceError(f"a simulated market needs a seed >= 0 and shifts with shares in [0, 1], {arrived}")

    def blocks(self) -> Iterator[Block]:
        """Draw all users with their events, a block at a time."""
        number = self.market.simulation.users
        for first in range(0, number, USERS):
            yield self._block(first // USERS, min(USERS, number - first))

    @cached_property
    def products(self) -> pd.DataFrame:
        """The catalogue: ids, the moments of launch, and the columns of products."""
        table, values = self.market.products, self._preferences.product_values
        number = self.market.simulation.products
        # All ids have the same length, so that they sort by place.
        width = max(4, len(str(number - 1)))
        ids = [f"p{place:0{width}d}" for place in range(number)]
        frame = {table.key: ids, table.time: self._times(self._preferences.launched)}
        cells = {column.name: typed(column, values[column.name]) for column in self.market.product_columns}
        return pd.DataFrame(frame | cells)

    def preference(self, users: Rows, day: float = 0.0) -> Floats:
        """Compute the true preferences of users, ids from 0 on, among all products.

        Returns
        -------
        ndarray, shape (users, products), in (0, 1)
            each row sums to 1; position, season and launch are not taken into account
        """
        weights = _weights(self.utility(users, day))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def utility(self, users: Rows, day: float = 0.0) -> Floats:
        """The true utility of each product to each user on a day of the market, shape (users, products)."""
        return self._preferences.utility(self._preferences.people(users), day)

    def chances(self, users: Rows, day: float = 0.0) -> dict[str, Floats]:
        """Compute the true probability of each event given the one before, by the event's name, except the first.

        Returns
        -------
        dict of ndarray, shape (users, products), in [0, 1]
        """
        people = self._preferences.people(users)
        return self._funnel.chances(self._preferences.utility(people, day), self._preferences.allowed(people))

    @cached_property
    def listing(self) -> Listing:
        """Where products stand in the list: the popular ones first."""
        popularity = self._preferences.popularity
        ranks = np.empty(len(popularity), np.int64)
        ranks[np.argsort(-popularity, kind="stable")] = np.arange(1, len(ranks) + 1)
        return Listing(ranks, self.market.simulation.position_bias)

    @cached_property
    def _preferences(self) -> Preferences:
        return Preferences(self.market, self.seed, self.shifts)

    def _times(self, seconds: Rows) -> Times:
        return np.asarray(np.datetime64(self.market.simulation.start, "ms") + seconds.astype("timedelta64[s]"))

    @property
    def _end(self) -> int:
        return self.market.simulation.days * DAY

    def _block(self, number: int, rows: int) -> Block:
        people, rng = self._preferences.block(number), self._preferences.rng("interactions", number)
        views = self._views(people, rng, self.market.simulation.views / self._accepted)
        table, values = self.market.users, people.values
        ids = np.arange(rows) + number * USERS
        columns = {column.name: typed(column, values[column.name][:rows]) for column in self.market.user_columns}
        users = pd.DataFrame({table.key: ids, table.time: self._times(people.joined[:rows])} | columns)
        return Block(users, self._interactions(people, views, rng, number * USERS, rows))

    def _views(self, people: People, rng: np.random.Generator, mean: float) -> _Views:
        """Draw views; `mean` is the mean number of visits of a user who is there from the start."""
        begin = np.maximum(people.joined, 0)
        visits = rng.poisson(mean * (1 - begin / self._end))
        users = np.repeat(np.arange(len(begin)), visits)
        moments = (begin[users] + rng.random(len(users)) * (self._end - begin[users])).astype(np.int64)
        uniform, accepting = rng.random((2, len(users)))
        products, utility = np.zeros(len(users), np.int64), np.zeros(len(users))
        edges = sorted({0.0, *(max(0.0, shift.day) for shift in self.shifts), float("inf")})
        for day, until in pairwise(edges):
            for first, part in self._parts(people):
                # Visits are in the order of their users.
                start, end = np.searchsorted(users, [first, first + len(part.joined)])
                rows = start + np.flatnonzero((moments[start:end] >= day * DAY) & (moments[start:end] < until * DAY))
                of_all = self._preferences.utility(part, day)
                own = users[rows] - first
                products[rows] = chosen(_weights(of_all) * self.listing.looked_at, own, uniform[rows])
                utility[rows] = of_all[own, products[rows]]
        wave = np.sin(2 * np.pi * (moments / YEAR + self._preferences.seasons[products]))
        in_season = accepting < 1 - self.market.simulation.season * (1 + wave) / 2
        return _Views(users, products, moments, utility)[in_season & (self._preferences.launched[products] <= moments)]

    def _parts(self, people: People) -> Iterator[tuple[int, People]]:
        """Cut people so that their preferences fit into memory; yields the place of the first, and the part."""
        step = max(1, _PREFERENCES // self.market.simulation.products)
        for first in range(0, len(people.joined), step):
            yield first, people[first : first + step]

    @cached_property
    def _sample(self) -> tuple[People, _Views, float]:
        """Users of the first block, their views, and the share of visits that led to a view."""
        people, visits = self._preferences.block(0), self.market.simulation.views
        views = self._views(people, self._preferences.rng("sample"), visits)
        expected = visits * (1 - np.maximum(people.joined, 0) / self._end).sum()
        return people, views, max(len(views.users), 1) / expected

    @property
    def _accepted(self) -> float:
        return self._sample[2]

    @cached_property
    def _funnel(self) -> Funnel:
        people, views, _ = self._sample
        allowed = self._preferences.allowed_of(people[views.users], views.products)
        return fit_funnel(self.market.events, views.utility, allowed)

    def _interactions(
        self, people: People, views: _Views, rng: np.random.Generator, first: int, users: int
    ) -> pd.DataFrame:
        """Draw the views of the first `users` users of a block, and the events that follow each view."""
        positions = self.listing.positions(views.products, rng)
        allowed = self._preferences.allowed_of(people[views.users], views.products)
        chances = self._funnel.chances(views.utility, allowed)
        reached, moments = np.ones(len(views.users), np.bool_), views.moments
        parts = []
        for code, event in enumerate(self.market.events):
            if code:
                delay = rng.exponential(event.delay_hours * 3600, len(moments))
                moments = moments + np.ceil(delay).astype(np.int64)
                reached = reached & (rng.random(len(moments)) < chances[event.name])
            rows = np.flatnonzero(reached & (moments < self._end) & (views.users < users))
            parts.append((rows, np.full(len(rows), code), moments[rows]))
        view, kind, moment = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((kind, view, moment))
        return self._table(views, view[order], kind[order], moment[order], positions, first)

    def _table(
        self, views: _Views, rows: Rows, codes: Rows, moments: Rows, positions: Rows, first: int
    ) -> pd.DataFrame:
        table = self.market.interactions
        ids = pd.CategoricalDtype(list(self.products[self.market.products.key]))
        events = pd.CategoricalDtype([event.name for event in self.market.events])
        products: Any = views.products[rows]
        kinds: Any = codes
        return pd.DataFrame(
            {
                self.market.users.key: views.users[rows] + first,
                self.market.products.key: pd.Categorical.from_codes(products, dtype=ids),
                table.event: pd.Categorical.from_codes(kinds, dtype=events),
                table.time: self._times(moments),
                table.position: positions[rows].astype(np.int32),
            }
        )


def _weights(utility: Floats) -> Floats:
    return np.asarray(np.exp(utility - utility.max(axis=1, keepdims=True)))
