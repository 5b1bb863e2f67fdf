"""What towers have to beat: simple ways to find products for a user, fitted on the same views."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from offers.contract.market import Market
from offers.data.online import OnlineUsers
from offers.retrieval.popularity import Popularity, cells_of, count_views
from offers.retrieval.user_tower import Floats, Towers
from offers.retrieval.views import Views

FACTORS = 32
"""Of the matrix factorisation, at most."""

SINCE = 50
"""The newest views of a user since the fit, at most, that simple ways take into account."""

_DENSE = 5000
"""Products up to which similarities are faster as a whole matrix."""

_TIE = 1e-6
"""Weight of popularity where a user's own views tell nothing."""


class Scorer(Protocol):
    """Scores all products for the users of some views; higher is better."""

    def __call__(self, views: Views, /) -> Floats:
        """Compute scores, shape (n_views, n_products)."""
        ...


@dataclass(frozen=True, eq=False)
class ByTowers:
    """The towers' affinity; `history` is the contract's number of views."""

    towers: Towers
    history: int

    def __call__(self, views: Views) -> Floats:
        return self.towers.affinity(views.full(self.history))


@dataclass(frozen=True, eq=False)
class ByPopularity:
    """The number of views, each weighted by how rarely its position is looked at; the same for every user."""

    counts: NDArray[np.float64]

    def __call__(self, views: Views) -> Floats:
        return np.tile(self.counts.astype(np.float32), (len(views), 1))


@dataclass(frozen=True, eq=False)
class BySegment:
    """The number of views among users of the same segment."""

    market: Market
    popularity: Popularity

    def __call__(self, views: Views) -> Floats:
        cells = cells_of(self.market, OnlineUsers(self.market).encoder, np.asarray(views.rows))
        return np.asarray(self.popularity.of_cells(cells), np.float32)


@dataclass(frozen=True, eq=False)
class ByHistory:
    """What resembles the products that the user has viewed by then; popularity for a user without views.

    Parameters
    ----------
    counts : how often each user viewed each product among the views that it is fitted on
    fitted : number of these views
    similarity : matrices whose product has the shape (n_products, n_products)
    logs : whether log(1 + views) counts
    """

    counts: sparse.csr_array
    fitted: int
    similarity: tuple[NDArray[np.float64] | sparse.csr_array, ...]
    logs: bool = False

    def __call__(self, views: Views) -> Floats:
        counts = self.counts[views.user] + self._since(views)
        scores = counts.log1p() if self.logs else counts
        for part in self.similarity:
            scores = scores @ part
        dense = scores.toarray() if sparse.issparse(scores) else scores
        return np.asarray(dense + _TIE * self._popularity, np.float32)

    def _since(self, views: Views) -> sparse.csr_array:
        """Count what the users viewed since the fit, up to each view."""
        numbers = views.history.views(views.number, SINCE)
        rows, columns = np.nonzero(numbers >= self.fitted)
        products = np.asarray(views.history.product[numbers[rows, columns]])
        shape = (len(views), self.counts.shape[1])
        return sparse.coo_array((np.ones(len(rows)), (rows, products)), shape).tocsr()

    @cached_property
    def _popularity(self) -> NDArray[np.float64]:
        views = np.asarray(self.counts.sum(axis=0)).ravel()
        return np.asarray(views / max(views.max(), 1.0))


def by_popularity(market: Market, views: Views, products: int) -> ByPopularity:
    weights = looks_weights(market, views)
    return ByPopularity(np.bincount(views.product, weights, minlength=products).astype(np.float64))


def by_segment(market: Market, views: Views, products: int) -> BySegment:
    cells = cells_of(market, OnlineUsers(market).encoder, np.asarray(views.rows))
    return BySegment(market, count_views(market, cells, views.product, views.accepted, products))


def by_co_occurrence(counts: sparse.csr_array, fitted: int) -> ByHistory:
    """Products are alike as far as the same users viewed both: the cosine of their columns of users."""
    seen = counts.sign().astype(np.float64)
    norms = sparse.diags_array(1 / np.sqrt(np.maximum(np.asarray(seen.sum(axis=0)), 1.0)))
    together = (norms @ (seen.T @ seen) @ norms).tocsr()
    return ByHistory(counts, fitted, (together.toarray() if together.shape[0] <= _DENSE else together,))


def by_factors(counts: sparse.csr_array, fitted: int, seed: int) -> ByHistory:
    """Products are alike by a truncated singular value decomposition of log(1 + views) (Cremonesi et al. 2010)."""
    from scipy.sparse.linalg import svds

    logs = counts.log1p()
    number = min(FACTORS, min(logs.shape) - 1)
    if number < 1:
        return by_co_occurrence(counts, fitted)
    _, _, factors = svds(logs, k=number, rng=np.random.default_rng(seed))
    return ByHistory(counts, fitted, (factors.T, factors), logs=True)


def counts_of(views: Views, products: int) -> sparse.csr_array:
    """Count how often each user viewed each product."""
    ones = np.ones(len(views))
    return sparse.coo_array((ones, (views.user, views.product)), (len(views.users), products)).tocsr()


def looks_weights(market: Market, views: Views) -> NDArray[np.float64]:
    """Weigh views by the inverse of the probability that their position is looked at, up to a factor."""
    return np.asarray(views.position.astype(np.float64) ** market.interactions.position_bias)
