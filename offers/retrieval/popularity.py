"""What is popular, among all users and within segments: the answer to a user of whom nothing is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market
from offers.model.encoder import Encoder

PRIOR = 100.0
"""Views that a segment, or a product, is given beside its own; they are shared out as all users' views are."""


@dataclass(frozen=True, eq=False)
class Popularity:
    """Views and acceptances of each product, for each segment of users and for all users.

    Attributes
    ----------
    values : for each of the contract's `segments` its words
    counts : ndarray, shape (2, cells + 1, n_products): views, then acceptances. A cell is one combination of words, of
        which the last of each column is "missing"; the last row is that of all users
    """

    values: Mapping[str, Sequence[str]]
    counts: NDArray[np.float64]

    def of_cells(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Count the views of each product in segments by number, as `scores` does; shape (n, n_products)."""
        views = self.counts[0, -1]
        return np.asarray(self.counts[0, cells] + PRIOR * views / max(views.sum(), 1.0))

    def scores(self, segment: Mapping[str, object] | None = None) -> NDArray[np.float64]:
        """Count the views of each product in a segment, with a few added as all users share them out.

        Parameters
        ----------
        segment : a value for each of the contract's `segments`; None for all users
        """
        if segment is None or not self.values:
            return np.asarray(self.counts[0, -1])
        return np.asarray(self.of_cells(np.array([self._cell(segment)]))[0])

    def rates(self, segment: Mapping[str, object] | None = None) -> NDArray[np.float64]:
        """Estimate the share of views that end in acceptance, drawn towards the mean where views are few."""
        views, accepted = self.counts[:, -1]
        rates = (accepted + PRIOR * accepted.sum() / max(views.sum(), 1.0)) / (views + PRIOR)
        if segment is None or not self.values:
            return np.asarray(rates)
        views, accepted = self.counts[:, self._cell(segment)]
        return np.asarray((accepted + PRIOR * rates) / (views + PRIOR))

    def _cell(self, segment: Mapping[str, object]) -> int:
        cell = 0
        for name, words in self.values.items():
            word = str(segment.get(name)).lower() if words == _BOOLEAN else segment.get(name)
            cell = cell * (len(words) + 1) + (words.index(str(word)) if word in words else len(words))
        return cell


_BOOLEAN = ("false", "true")


def segment_values(market: Market) -> dict[str, tuple[str, ...]]:
    """List the words of each of the contract's `segments`."""
    return {name: market.by_name[name].values or _BOOLEAN for name in market.segments}


def cells_of(market: Market, encoder: Encoder, users: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number the segment of each user's row, shape (n,)."""
    cells = np.zeros(len(users), np.int64)
    for name, words in segment_values(market).items():
        codes = users[:, encoder.names.index(name)]
        cells = cells * (len(words) + 1) + np.nan_to_num(codes, nan=len(words)).astype(np.int64)
    return cells


def count_views(
    market: Market,
    cells: NDArray[np.int64],
    products: NDArray[np.integer],
    accepted: NDArray[np.bool_],
    number: int,
) -> Popularity:
    """Count views and acceptances.

    Parameters
    ----------
    cells, products, accepted : of each view the user's segment, the product's place, and whether it ended in acceptance
    number : of products
    """
    values = segment_values(market)
    size = int(np.prod([len(words) + 1 for words in values.values()], dtype=np.int64))
    counts = np.zeros((2, size + 1, number))
    pairs = cells * number + products
    for place, weights in enumerate((np.ones(len(pairs)), accepted.astype(np.float64))):
        counts[place, :size] = np.bincount(pairs, weights, minlength=size * number).reshape(size, number)
        counts[place, size] = counts[place, :size].sum(axis=0)
    return Popularity(values, counts)
