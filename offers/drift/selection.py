"""Encodes which rows of a reference a catalogue's rules let pass, as one word that fits events, files and states."""

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from offers.errors import DataError

KEY = "offers.selection"
"""Where a Parquet file's metadata has the word."""


def encoded(mask: NDArray[np.bool_]) -> str:
    """Encode a mask, shape (n_rows,), as a word; the word is empty where every row passes.

    Examples
    --------
    >>> encoded(np.array([True, False, True])), encoded(np.ones(3, bool))
    ('oA==', '')
    """
    return "" if mask.all() else base64.b64encode(np.packbits(mask).tobytes()).decode()


def decoded(word: str, rows: int) -> NDArray[np.bool_]:
    """Decode a word into its mask, shape (rows,).

    Raises
    ------
    DataError
        the word is not one for this number of rows

    Examples
    --------
    >>> decoded("oA==", 3)
    array([ True, False,  True])
    """
    if not word:
        return np.ones(rows, bool)
    try:
        bits = np.frombuffer(base64.b64decode(word, validate=True), np.uint8)
    except (binascii.Error, ValueError):
        bits = np.empty(0, np.uint8)
    if len(bits) != -(-rows // 8):
        raise DataError(f"expected a selection of {rows} rows in base64, got {word[:40]!r}")
    return np.unpackbits(bits, count=rows).astype(bool)
