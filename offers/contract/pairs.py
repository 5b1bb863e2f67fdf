"""Compares users with products: the columns of pairs, for training, serving and the simulated market alike."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market, Pair

Floats = NDArray[np.float64]


def pair_values(
    market: Market, pair: Pair, users: Mapping[str, NDArray[Any]], products: Mapping[str, NDArray[Any]]
) -> Floats:
    """Compute the values of a column of pairs.

    Parameters
    ----------
    users, products : values by column, of shapes that broadcast; categories are codes of the contract's `values`, other
        values numbers, NaN where missing

    Returns
    -------
    ndarray
        of the broadcast shape; NaN where either side is missing, and where a ratio's denominator is 0

    Examples
    --------
    >>> from offers.contract.market import load
    >>> market = load("fintech")
    >>> gap = next(pair for pair in market.pairs if pair.measure == "difference")
    >>> pair_values(market, gap, {gap.user: np.array([5.0, np.nan])}, {gap.product: np.array([3.0, 3.0])}).tolist()
    [2.0, nan]
    """
    user, product = users[pair.user], products[pair.product]
    if pair.measure == "equal":
        product = _recoded(product, market.by_name[pair.product].values, market.by_name[pair.user].values)
    unknown = np.isnan(user) | np.isnan(product)
    if pair.measure == "difference":
        return np.asarray(user - product, np.float64)
    if pair.measure == "ratio":
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(product == 0, np.nan, user / product)
    truth = user == product if pair.measure == "equal" else user >= product
    return np.where(unknown, np.nan, truth.astype(np.float64))


def _recoded(codes: NDArray[Any], words: tuple[str, ...], others: tuple[str, ...]) -> Floats:
    """Turn codes of `words` into codes of `others`; a word that `others` lack becomes -1, which equals no code."""
    places = np.array([others.index(word) if word in others else -1 for word in words], np.float64)
    return np.where(np.isnan(codes), np.nan, places[np.nan_to_num(codes).astype(np.intp)])
