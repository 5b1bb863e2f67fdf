"""Distances between two samples of a column.

A distance needs a p-value next to it (`offers.drift.significance`), which is the probability of a distance at least as
large when both samples come from one distribution. With many rows even a small distance is significant, and with few
rows even a large one is not.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_FLOOR = 1e-4
_DRAWS = 1000


def ks_distance(reference: ArrayLike, sample: ArrayLike) -> float:
    """Compute the Kolmogorov-Smirnov distance: the largest gap between two cumulative distributions.

    Parameters
    ----------
    reference, sample : numbers; NaN is left out

    Returns
    -------
    float
        in [0, 1]; NaN where one sample has no numbers

    Examples
    --------
    >>> ks_distance([1, 2, 3, 4], [3, 4, 5, 6])
    0.5
    """
    return ks_distance_of_sorted(*(np.sort(present(part)) for part in (reference, sample)))


def ks_distance_of_sorted(reference: Floats, sample: Floats) -> float:
    """Compute `ks_distance` for numbers that are sorted and hold no NaN."""
    if not reference.size or not sample.size:
        return float("nan")
    # The gap is largest at one of the sample's values, or just below one.
    above = np.searchsorted(reference, sample, side="right") / len(reference)
    below = np.searchsorted(reference, sample, side="left") / len(reference)
    at = np.searchsorted(sample, sample, side="right") / len(sample)
    before = np.searchsorted(sample, sample, side="left") / len(sample)
    return float(max(np.max(np.abs(above - at)), np.max(np.abs(below - before))))


def ks_distance_of_counts(reference: ArrayLike, sample: ArrayLike) -> float:
    """Compute the largest gap between cumulative distributions at the ends of bins, a lower bound of `ks_distance`.

    Parameters
    ----------
    reference, sample : rows per bin, the same bins in both, in rising order
    """
    gaps = np.abs(np.cumsum(_shares(reference)) - np.cumsum(_shares(sample)))
    return float(np.max(gaps))


def cramers_v(reference: ArrayLike, sample: ArrayLike) -> float:
    """Compute Cramér's V of category and sample, as if both samples had the same number of rows.

    V squared is then half the sum of (p - q)^2 / (p + q). So V depends on the shares alone, and not on how many more
    rows the reference has.

    Parameters
    ----------
    reference, sample : rows per category, or shares, the same categories in both

    Returns
    -------
    float
        in [0, 1]: 0 for equal shares, 1 for samples without a common category; NaN where one is empty

    Examples
    --------
    >>> round(cramers_v([500, 500], [60, 40]), 3)
    0.101
    """
    p, q = _shares(reference), _shares(sample)
    both = np.where(p + q > 0, p + q, 1)
    return float(np.sqrt(np.sum((p - q) ** 2 / both) / 2))


def population_stability_index(reference: "pd.Series[Any]", sample: "pd.Series[Any]", bins: int = 10) -> float:
    """Compute the population stability index: the sum of (p - q) ln(p / q) over bins.

    Numbers are binned at the reference's quantiles, categories by value; missing cells have a bin of their own. Shares
    are raised to at least 0.0001, so that an empty bin counts much but not infinitely.
    """
    if isinstance(reference.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(reference):
        words = [pd.Index(part.astype(str)) for part in (reference, sample)]
        values = words[0].union(words[1]).unique()
        counts = [np.bincount(values.get_indexer(part), minlength=len(values)) for part in words]
    else:
        edges = bin_edges(reference.to_numpy(dtype=float), bins)
        counts = [bin_counts(part.to_numpy(dtype=float), edges) for part in (reference, sample)]
    return psi(*counts)


def psi(reference: ArrayLike, sample: ArrayLike) -> float:
    """Compute the population stability index from rows per bin, the same bins in both."""
    p, q = (np.maximum(_shares(part), _FLOOR) for part in (reference, sample))
    return float(np.sum((q - p) * np.log(q / p)))


def psi_noise(reference: ArrayLike, rows: int, quantile: float = 0.99, seed: int = 0) -> float:
    """Simulate the population stability index that chance alone causes, and take a quantile of it.

    Both samples are redrawn from the reference's shares, at their own sizes n and m. Where no bin is rare, the result
    tends to (1/n + 1/m) times the quantile of chi-squared with bins - 1 degrees of freedom; rare bins make it larger.

    Parameters
    ----------
    reference : rows per bin of the reference
    rows : size of the sample to be judged, at least 1
    quantile : in (0, 1)
    """
    counts = np.asarray(reference, float)
    if rows < 1 or not counts.sum():
        return float("nan")
    generator, shares = np.random.default_rng(seed), _shares(counts)
    pairs = (generator.multinomial(size, shares, _DRAWS) / size for size in (int(counts.sum()), rows))
    p, q = (np.maximum(part, _FLOOR) for part in pairs)
    return float(np.quantile(np.sum((q - p) * np.log(q / p), axis=1), quantile))


def bin_edges(values: Floats, bins: int = 10) -> Floats:
    """Find the upper ends of all bins except the last, at quantiles of the values that are not NaN."""
    present_values = values[~np.isnan(values)]
    if not present_values.size:
        return present_values
    edges = np.unique(np.quantile(present_values, np.linspace(0, 1, bins + 1)[1:-1]))
    # Where many rows have the lowest value, the first edge equals it. An extra edge just below keeps still lower values
    # of another sample out of that bin.
    below = [np.nextafter(edges[0], -np.inf)] if edges[0] == present_values.min() else []
    return np.concatenate([below, edges])


def bin_counts(values: Floats, edges: Floats) -> NDArray[np.int64]:
    """Count rows per bin, shape (len(edges) + 2,); the last bin is of missing values."""
    present_values = np.sort(values[~np.isnan(values)])
    upto = np.searchsorted(present_values, edges, side="right")
    return np.diff(np.concatenate([[0], upto, [len(present_values), len(values)]]))


def attribution_ndcg(reference: ArrayLike, sample: ArrayLike) -> float:
    """Measure how well the order of the features' importance is kept: normalised discounted cumulative gain.

    The features are ranked by their importance in the sample. Each one gains its importance in the reference, divided
    by the logarithm of its rank. The sum is divided by the sum for the reference's own order (Järvelin and Kekäläinen,
    2002). Swapping features of nearly equal importance costs almost nothing. Features of equal importance in the
    sample share their ranks.

    Parameters
    ----------
    reference, sample : mean |contribution| per feature, the same features in both, at least 0

    Returns
    -------
    float
        in (0, 1], 1 for the same order; NaN where the reference's importance is 0 throughout

    Examples
    --------
    >>> round(attribution_ndcg([0.8, 0.3, 0.1], [0.1, 0.3, 0.8]), 2)
    0.66
    """
    gain = np.asarray(reference, float)
    discount = 1 / np.log2(np.arange(len(gain)) + 2)
    _, run, sizes = np.unique(-np.asarray(sample, float), return_inverse=True, return_counts=True)
    shared = np.add.reduceat(discount, np.cumsum(sizes) - sizes) / sizes
    best = float(np.sort(gain)[::-1] @ discount)
    return float(gain @ shared[run]) / best if best > 0 else float("nan")


def _shares(counts: ArrayLike) -> Floats:
    numbers = np.asarray(counts, float)
    total = numbers.sum()
    return np.asarray(numbers / total if total else np.full(numbers.shape, np.nan), float)


def present(values: ArrayLike) -> Floats:
    numbers: Floats = np.asarray(values, np.float64)
    return numbers[~np.isnan(numbers)]
