"""Detection of repeated customers in a stream, in 8 bytes each."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa

_RANGES = 16


class Repeats:
    """Finds ids that occur twice in a stream, by 64-bit hashes.

    Hashes are kept in sorted runs. A run is merged with the one before it once it is as long, so runs stay few. Each of
    16 ranges of hashes has runs of its own, because a merge needs its runs' memory twice. Among 10 million ids the
    chance that two different ones share a hash is about 3 in a million.
    """

    def __init__(self) -> None:
        self._runs: list[list[np.ndarray]] = [[] for _ in range(_RANGES)]

    def add(self, hashes: np.ndarray) -> int | None:
        """Add the hashes of a batch; returns the place of the first repeated id in it, or None."""
        order = np.argsort(hashes, kind="stable")
        ascending = hashes[order]
        again = np.append(False, ascending[1:] == ascending[:-1])
        bounds = np.arange(1, _RANGES, dtype=np.uint64) * np.uint64(2**64 // _RANGES)
        edges = [0, *np.searchsorted(ascending, bounds).tolist(), len(ascending)]
        parts = [slice(start, end) for start, end in pairwise(edges)]
        for runs, part in zip(self._runs, parts, strict=True):
            for earlier in runs:
                at = np.minimum(np.searchsorted(earlier, ascending[part]), len(earlier) - 1)
                again[part] |= earlier[at] == ascending[part]
        if again.any():
            return int(order[again].min())
        for runs, part in zip(self._runs, parts, strict=True):
            _append(runs, ascending[part].copy())
        return None


def _append(runs: list[np.ndarray], run: np.ndarray) -> None:
    if not len(run):
        return
    runs.append(run)
    while len(runs) > 1 and len(runs[-2]) <= len(runs[-1]):
        union = np.concatenate([runs.pop(), runs.pop()])
        union.sort()
        runs.append(union)


def hashes(ids: pa.Array) -> np.ndarray:
    """Hash each id to 64 bits."""
    return np.asarray(pd.util.hash_array(ids.to_numpy(zero_copy_only=False), categorize=False))
