"""Intervals that hold at every look: an asymptotic confidence sequence (Waudby-Smith et al. 2024).

Whoever looks at a plain interval again and again, and stops once it excludes zero, stops in a third of the experiments
without any difference. These intervals are wider, and hold at all looks together.
"""

import numpy as np

LEVEL = 0.95
TUNED = 5000
"""Customers at which the intervals are narrowest for their level; they hold at any number."""


def radius(variance: np.ndarray | float, n_customers: np.ndarray | float, level: float = LEVEL) -> np.ndarray:
    """Compute half the width of the interval around an estimate.

    Parameters
    ----------
    variance : the estimate's variance, as for a plain interval
    n_customers : number of customers behind the estimate, of both arms together

    Returns
    -------
    ndarray
        by theorem 2.2 of the paper: sqrt(n variance) sqrt(2 (n r + 1) / (n² r) log(sqrt(n r + 1) / alpha)), where r
        makes the interval narrowest at `TUNED` customers

    Examples
    --------
    >>> float(radius(1e-4, 5000).round(4))  # a plain interval has 0.0196
    0.0304
    """
    alpha, n = 1 - level, np.asarray(n_customers, np.float64)
    rate = (-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / TUNED
    growth = n * rate + 1
    return np.asarray(np.sqrt(n * variance) * np.sqrt(2 * growth / (n**2 * rate) * np.log(np.sqrt(growth) / alpha)))
