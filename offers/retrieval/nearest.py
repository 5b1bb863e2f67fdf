"""Finds the products whose vectors fit a user's best: by an index where there are very many, else among all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.retrieval.product_index import EXACT, ProductIndex

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

SCORES = 1 << 24
"""Scores that are held at once."""


def nearest(
    products: Floats, index: ProductIndex | None, users: Floats, count: int, available: NDArray[np.bool_]
) -> Places:
    """Find the products of the highest score, the product of both vectors, the highest first.

    The index knows the products of the training. Those that came later are compared one by one. So are all where few
    are available or the index finds too few.

    Parameters
    ----------
    products, users : vectors
    index : of the first of the products
    available : shape (n_products,)

    Returns
    -------
    ndarray, shape (n_users, min(count, number available)), int64
    """
    known = index.shape[0] if index else 0
    if index is None or available[:known].sum() <= EXACT:
        return exactly_nearest(products, users, count, available)
    found = index.search(users, count, available[:known])
    if (found < 0).any():
        return exactly_nearest(products, users, count, available)
    new = known + np.flatnonzero(available[known:])
    places = np.concatenate([found, np.tile(new, (len(users), 1))], axis=1)
    scores = np.einsum("nd,nmd->nm", users, products[found])
    order = highest(np.concatenate([scores, users @ products[new].T], axis=1), count)
    return np.asarray(np.take_along_axis(places, order, axis=1))


def exactly_nearest(products: Floats, users: Floats, count: int, available: NDArray[np.bool_]) -> Places:
    """Find what `nearest` looks for by a comparison with all that are available."""
    among = np.flatnonzero(available)
    # To copy the vectors of all would take longer than to compare them.
    vectors = products if len(among) == len(products) else products[among]
    step = max(1, SCORES // max(1, len(among)))
    blocks = (users[start : start + step] for start in range(0, len(users), step))
    return np.concatenate([among[highest(block @ vectors.T, count)] for block in blocks])


def highest(scores: NDArray[Any], count: int) -> Places:
    """Find the places of the highest scores of each row, the highest first; shape (n, min(count, columns))."""
    count = min(count, scores.shape[1])
    if count < scores.shape[1]:
        places = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    else:
        places = np.tile(np.arange(count), (len(scores), 1))
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(places, order, axis=1), np.int64)
