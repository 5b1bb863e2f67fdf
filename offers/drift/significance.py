"""Tests whether a difference between samples can be chance: p-values, the false-discovery rate, an interval."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from offers.drift.statistics import Floats


def ks_p_value(distance: ArrayLike, reference_rows: ArrayLike, rows: ArrayLike) -> Floats:
    """Compute the p-value of a Kolmogorov-Smirnov distance, as `scipy.stats.ks_2samp(..., method="asymp")` does.

    Parameters
    ----------
    distance : in [0, 1]; NaN gives NaN
    reference_rows, rows : number of values in each sample
    """
    large, small = (np.asarray(pick(reference_rows, rows), float) for pick in (np.maximum, np.minimum))
    effective = np.round(large * small / np.maximum(large + small, 1))
    return np.asarray(stats.kstwo.sf(distance, np.maximum(effective, 1)), float)


def chi_squared_p_value(reference: ArrayLike, sample: ArrayLike) -> float:
    """Compute the p-value of Pearson's chi-squared test with Yates' correction, as `scipy.stats.chi2_contingency` does.

    Parameters
    ----------
    reference, sample : rows per category, the same categories in both; a category absent from both is left out

    Returns
    -------
    float
        in [0, 1]; NaN where a sample is empty or there are fewer than two categories
    """
    table = np.array([reference, sample], float)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return float("nan")
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    gap = np.abs(table - expected)
    freedom = table.shape[1] - 1
    if freedom == 1:
        gap = np.maximum(gap - 0.5, 0)
    return float(special.chdtrc(freedom, np.sum(gap**2 / expected)))


def share_p_values(reference: ArrayLike, reference_rows: ArrayLike, sample: ArrayLike, rows: ArrayLike) -> Floats:
    """Test each share by itself: the likelihood-ratio test of a 2 x 2 table with Yates' correction.

    When a category of 2 % doubles, a test over 12 categories hardly notices it, but a test of this category does. The
    likelihood ratio keeps its level for rare categories, where Pearson's statistic does not.

    Parameters
    ----------
    reference, sample : number of rows of the category in each sample
    reference_rows, rows : number of all rows of each sample, at least 1

    Returns
    -------
    ndarray
        two-sided p-values in [0, 1]; 1 for a category that is absent from both samples, or everywhere in both
    """
    a, m, x, n = (np.asarray(part, float) for part in (reference, reference_rows, sample, rows))
    pooled = (a + x) / (m + n)
    expected = pooled * n
    gap = np.maximum(np.abs(x - expected) - 0.5, 0) * np.sign(x - expected)
    cells = ((n, pooled, gap), (n, 1 - pooled, -gap), (m, pooled, -gap), (m, 1 - pooled, gap))
    ratio = sum(cell(size * share, change) for size, share, change in cells)
    return np.asarray(special.chdtrc(1, np.maximum(2 * ratio, 0)), float)


def false_discovery(p_values: ArrayLike, rate: float) -> NDArray[np.bool_]:
    """Mark the discoveries; on average at most the share `rate` of them is false (Benjamini and Hochberg 1995).

    Parameters
    ----------
    p_values : shape (n,); NaN stands for a test that could not be made, and is not counted
    rate : in (0, 1)

    Examples
    --------
    >>> false_discovery([0.001, 0.02, 0.2, 0.9], rate=0.05).tolist()
    [True, True, False, False]
    """
    p = np.asarray(p_values, float)
    values = np.sort(p[~np.isnan(p)])
    passing = np.flatnonzero(values <= rate * np.arange(1, len(values) + 1) / max(len(values), 1))
    return np.asarray(p <= values[passing[-1]], bool) if passing.size else np.zeros(p.shape, bool)


def mean_p_value(reference: ArrayLike, sample: ArrayLike) -> float:
    """Compute the p-value of a difference of means by Welch's t-test.

    Returns
    -------
    float
        in [0, 1]; NaN where a sample has fewer than two values

    Examples
    --------
    >>> round(mean_p_value([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]), 3)
    0.347
    """
    a, b = (np.asarray(part, np.float64) for part in (reference, sample))
    if min(len(a), len(b)) < 2:
        return float("nan")
    parts = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    gap, square = abs(float(np.mean(a) - np.mean(b))), float(sum(parts))
    if square == 0:
        return 0.0 if gap else 1.0
    freedom = square**2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    return float(2 * special.stdtr(freedom, -gap / np.sqrt(square)))


def wilson_interval(positives: ArrayLike, rows: ArrayLike, z: float = 1.96) -> tuple[Floats, Floats]:
    """Compute the interval of a share after Wilson (1927), 95 % by default; (0, 1) where there are no rows.

    Examples
    --------
    >>> [round(float(end), 3) for end in wilson_interval(10, 100)]
    [0.055, 0.174]
    """
    n = np.asarray(rows, float)
    some = np.where(n > 0, n, 1)
    share, square = np.asarray(positives, float) / some, z**2 / some
    centre = (share + square / 2) / (1 + square)
    half = z * np.sqrt(share * (1 - share) / some + square / (4 * some)) / (1 + square)
    low, high = np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def cell(expected: Floats, gap: Floats) -> Floats:
    """Compute one cell's part of the log likelihood ratio."""
    observed = expected + gap
    return np.asarray(special.xlogy(observed, observed / np.where(expected > 0, expected, 1)), float)
