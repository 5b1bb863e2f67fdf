"""Assigns customers to arms by a hash of the experiment's salt and the pseudonym, the same on every machine."""

import hashlib
from collections.abc import Sequence

import numpy as np

CONTROL = "control"
"""The arm of those whom no other arm takes; it is what serves without the experiment."""
_LAYER = "layer"


def positions(salt: str, pseudonyms: Sequence[str]) -> np.ndarray:
    """Compute customers' positions in a salt's order: the first 53 bits of the SHA-256 of salt and pseudonym.

    Returns
    -------
    ndarray, shape (n_customers,), in [0, 1)
        uniform, and independent of the positions for another salt

    Examples
    --------
    >>> positions("dearer", ["ada", "ben"]).round(3).tolist()
    [0.49, 0.455]
    """
    sha256, start = hashlib.sha256, f"{salt}\0"
    digests = b"".join([sha256(f"{start}{pseudonym}".encode()).digest()[:8] for pseudonym in pseudonyms])
    return (np.frombuffer(digests, ">u8") >> np.uint64(11)) * 2.0**-53


def layer_positions(pseudonyms: Sequence[str]) -> np.ndarray:
    """Compute customers' positions in the one order that concurrent experiments divide into layers."""
    return positions(_LAYER, pseudonyms)
