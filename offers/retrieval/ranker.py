"""The ranker: the probability that a user accepts a product, from the columns of both and how they compare."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market
from offers.contract.pairs import pair_values
from offers.data.online import OnlineUsers
from offers.model.boosters import Booster, library_of
from offers.model.calibrator import Calibrator, Platt
from offers.model.encoder import Encoder
from offers.retrieval.products import Products

Floats = NDArray[np.float32]
KNOWN, AFFINITY = "known_views", "affinity"
BLOCK = 65_536
"""Pairs that are scored at once."""


@dataclass(frozen=True, eq=False)
class PairInputs:
    """The inputs of the ranker: columns of users and products, columns of pairs, and what the towers tell.

    That is the affinity, and how many of the user's views it knows of: the more it knows, the more it dares to say.

    A user's features count with the columns. Features by product and by pair are left out, as a user's online row has
    none of them.
    """

    market: Market
    products: Products

    @cached_property
    def users(self) -> Encoder:
        """The encoder of users' rows, which is that of the online store."""
        return OnlineUsers(self.market).encoder

    def names(self, affinity: bool) -> list[str]:
        pairs = [pair.name for pair in self.market.pairs]
        return [*self.users.names, *self.products.encoder.names, *pairs, *([KNOWN, AFFINITY] if affinity else [])]

    def types(self, affinity: bool) -> tuple[str, ...]:
        """The type of each input: c for a category, q for a number."""
        number = len(self.market.pairs) + 2 * affinity
        return (*self.users.feature_types, *self.products.encoder.feature_types, *(["q"] * number))

    def matrix(self, users: Floats, products: NDArray[np.integer], affinity: Floats | None) -> Floats:
        """Build the inputs of pairs.

        Parameters
        ----------
        users : rows that `MarketBundle.rows` builds, shape (n, columns + history), NaN where missing
        products : places, shape (n, m)
        affinity : shape (n, m); None where there are no towers

        Returns
        -------
        ndarray, shape (n * m, inputs), float32; the pairs of the first user come first
        """
        flat = products.ravel()
        own = users[:, : len(self.users.names)]
        repeated, chosen = np.repeat(own, products.shape[1], axis=0), self.products.matrix[flat]
        sides = (_columns(self.users, repeated), _columns(self.products.encoder, chosen))
        pairs = [pair_values(self.market, pair, *sides).astype(np.float32) for pair in self.market.pairs]
        last = list[Floats]()
        if affinity is not None:
            known = (~np.isnan(users[:, own.shape[1] :])).sum(axis=1, dtype=np.float32)
            last = [np.repeat(known, products.shape[1]), affinity.ravel()]
        parts = [repeated, chosen, *(values[:, None] for values in (*pairs, *last))]
        return np.concatenate(parts, axis=1, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Ranker:
    """Scores pairs by calibrated trees.

    Where there are towers, the trees are added to `line`, which makes log-odds of affinity. Trees alone would score all
    affinities below the least that was ever viewed alike, and most of a user's products are there.
    """

    inputs: PairInputs
    booster: Booster
    line: Platt
    calibrator: Calibrator

    def propensity(self, users: Floats, products: NDArray[np.integer], affinity: Floats | None) -> NDArray[np.float64]:
        """Compute the probability that users accept products, a block of users at a time.

        Parameters
        ----------
        users, products, affinity : as of `PairInputs.matrix`

        Returns
        -------
        ndarray, shape (n, m), in (0, 1)
        """
        out = np.empty(products.shape, np.float64)
        step = max(1, BLOCK // max(1, products.shape[1]))
        for start in range(0, len(users), step):
            rows = slice(start, start + step)
            part = None if affinity is None else affinity[rows]
            matrix = self.inputs.matrix(users[rows], products[rows], part)
            out[rows] = self.calibrator(self.margins(matrix, part)).reshape(-1, products.shape[1])
        return out

    def margins(self, matrix: Floats, affinity: Floats | None) -> NDArray[np.float64]:
        """Compute the log-odds of pairs before calibration, from their inputs and affinity; shape (pairs,)."""
        trees = library_of(self.booster).margins(self.booster, matrix, 1).astype(np.float64)
        return trees if affinity is None else trees + self.line.log_odds(affinity.ravel())

    def contributions(self, matrix: Floats, affinity: Floats | None, usual: float) -> NDArray[np.float64]:
        """Split the log-odds of pairs before calibration by input.

        Parameters
        ----------
        matrix, affinity : as of `margins`
        usual : the affinity that the line compares with, as it has no mean of its own

        Returns
        -------
        ndarray, shape (pairs, inputs + 1), of which the last column is what all pairs share
        """
        parts = library_of(self.booster).contributions(self.booster, matrix).astype(np.float64)
        if affinity is not None:
            parts[:, -2] += self.line.log_odds(affinity.ravel()) - self.line.log_odds(np.array(usual))
            parts[:, -1] += self.line.log_odds(np.array(usual))
        return parts


def _columns(encoder: Encoder, matrix: Floats) -> dict[str, NDArray[np.float32]]:
    return {name: matrix[:, place] for place, name in enumerate(encoder.names)}
