"""Who belongs to which arm: a hash of the experiment's salt and the customer's pseudonym, the same on every machine."""

import hashlib
from collections.abc import Sequence

import numpy as np

CONTROL = "control"
"""The arm of those whom no other arm takes; it is what serves without the experiment."""
_LAYER = "layer"


def positions(salt: str, pseudonyms: Sequence[str]) -> np.ndarray:
    """Where customers stand in a salt's order: the first 53 bits of SHA-256 over salt and pseudonym.

    Returns
    -------
    ndarray, shape (n_customers,), in [0, 1), uniform; independent of those of another salt

    Examples
    --------
    >>> positions("dearer", ["ada", "ben"]).round(3).tolist()
    [0.49, 0.455]
    """
    sha256, start = hashlib.sha256, f"{salt}\0"
    digests = b"".join([sha256(f"{start}{pseudonym}".encode()).digest()[:8] for pseudonym in pseudonyms])
    return (np.frombuffer(digests, ">u8") >> np.uint64(11)) * 2.0**-53


def layer_positions(pseudonyms: Sequence[str]) -> np.ndarray:
    """Where customers stand among the layers, which concurrent experiments share out among themselves."""
    return positions(_LAYER, pseudonyms)
