"""How far two samples of a column lie apart."""

import numpy as np
import pandas as pd

_FLOOR = 1e-4


def population_stability_index(reference: pd.Series, sample: pd.Series, bins: int = 10) -> float:
    """Population stability index, sum of (p - q) ln(p / q) over bins.

    Numbers are cut at the reference's quantiles, categories by value; missing cells are a bin of their own.
    Shares are held above 0.0001, so that an empty bin counts much and not infinitely.
    """
    if isinstance(reference.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(reference):
        words = [pd.Index(part.astype(str)) for part in (reference, sample)]
        values = words[0].union(words[1]).unique()
        places = [values.get_indexer(part) for part in words]
        n_bins = len(values)
    else:
        edges = _edges(reference.dropna().to_numpy(dtype=float), bins)
        places = [_binned(part.to_numpy(dtype=float), edges) for part in (reference, sample)]
        n_bins = len(edges) + 2
    p, q = (np.maximum(np.bincount(place, minlength=n_bins) / len(place), _FLOOR) for place in places)
    return float(np.sum((q - p) * np.log(q / p)))


def _edges(known: np.ndarray, bins: int) -> np.ndarray:
    """Upper ends of all bins but the last."""
    if not known.size:
        return known
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1]))
    # Where many rows share the lowest value, what lies below it would fall into their bin.
    below = [np.nextafter(edges[0], -np.inf)] if edges[0] == known.min() else []
    return np.concatenate([below, edges])


def _binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))
