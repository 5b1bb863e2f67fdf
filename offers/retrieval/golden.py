"""The golden rows of a market's bundle: users whose affinities and propensities must come out again."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offers.errors import BundleError

if TYPE_CHECKING:
    from offers.retrieval.bundle import MarketBundle

NOISE = 1e-4
"""What an affinity may differ by on another machine, relative to 1 or to its size."""
TOLERANCE = 1e-6

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


def golden_json(users: Floats, products: Places, affinity: Floats | None, propensity: NDArray[np.float64]) -> str:
    """Write golden rows: users, for each the places of some products, their affinity, and their propensities."""
    content = {
        "users": [[None if np.isnan(value) else float(value) for value in row] for row in users],
        "products": products.tolist(),
        "affinity": None if affinity is None else affinity.astype(np.float64).tolist(),
        "propensity": propensity.tolist(),
    }
    return json.dumps(content) + "\n"


def check_golden(bundle: "MarketBundle") -> None:
    """Compare towers and ranker with the golden rows.

    The ranker is given the affinities of the golden rows, as their last bits depend on the processor and could move a
    pair across a split of the trees.
    """
    content = json.loads((bundle.path / "golden.json").read_text("utf-8"))
    users, products = np.array(content["users"], np.float32), np.array(content["products"], np.int64)
    affinity = None if content["affinity"] is None else np.array(content["affinity"], np.float32)
    if (affinity is None) != (bundle.towers is None):
        raise BundleError(f"bundle {bundle.name}: golden rows and towers do not belong together: train it again")
    if affinity is not None:
        found = np.take_along_axis(bundle.affinity(users), products, axis=1)
        _compare(bundle, "affinity", found, affinity, NOISE * max(1.0, float(np.abs(affinity).max())))
    propensity = bundle.ranker.propensity(users, products, affinity)
    _compare(bundle, "propensity", propensity, np.array(content["propensity"]), TOLERANCE)


def _compare(bundle: "MarketBundle", what: str, found: NDArray[Any], expected: NDArray[Any], tolerance: float) -> None:
    if not np.allclose(found, expected, rtol=0, atol=tolerance):
        row, column = np.unravel_index(int(np.argmax(np.abs(found - expected))), found.shape)
        raise BundleError(
            f"bundle {bundle.name}: golden user {row + 1} has {what} {found[row, column]:.6f}, expected"
            f" {expected[row, column]:.6f}; it was made with"
            f" {', '.join(f'{name} {version}' for name, version in bundle.manifest.libraries.items())}"
        )
