"""Detection of repeated customers in a stream, in 8 bytes each."""

import numpy as np
import pandas as pd
import pyarrow as pa


class Repeats:
    """Finds ids that occur twice in a stream, by 64-bit hashes.

    Hashes are kept in sorted runs. A run is merged with the one before it once it is as long, so runs stay few. Among
    10 million ids the chance that two different ones share a hash is about 3 in a million.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def add(self, hashes: np.ndarray) -> int | None:
        """Add the hashes of a batch; returns the place of the first repeated id in it, or None."""
        order = np.argsort(hashes, kind="stable")
        run = hashes[order]
        again = np.append(False, run[1:] == run[:-1])
        for earlier in self._runs:
            at = np.minimum(np.searchsorted(earlier, run), len(earlier) - 1)
            again |= earlier[at] == run
        if again.any():
            return int(order[again].min())
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2]) <= len(self._runs[-1]):
            union = np.concatenate([self._runs.pop(), self._runs.pop()])
            union.sort()
            self._runs.append(union)
        return None


def hashes(ids: pa.Array) -> np.ndarray:
    """Hash each id to 64 bits."""
    return np.asarray(pd.util.hash_array(ids.to_numpy(zero_copy_only=False), categorize=False))
