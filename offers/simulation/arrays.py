"""Types of the simulated world's arrays, and the size of its blocks."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


Rows = NDArray[np.int64]


Times = NDArray[np.datetime64]


Values = dict[str, Floats]


BLOCK = 8192
"""Rows that are drawn at once; each block of a stream has its own generator, so a stream can be entered anywhere."""


REFERENCE_BLOCKS = 4


SECONDS, NANOSECONDS = np.dtype("datetime64[s]"), np.dtype("datetime64[ns]")
