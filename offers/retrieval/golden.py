"""The golden rows of a market's bundle: users whose affinities and propensities must come out again."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offers.errors import BundleError
from offers.retrieval.nearest import exactly_nearest, nearest

if TYPE_CHECKING:
    from offers.retrieval.bundle import MarketBundle

NOISE = 1e-4
"""What an affinity may differ by on another machine, relative to 1 or to its size."""
TOLERANCE = 1e-6

FOUND = 0.8
"""Share of the products of the highest value that an index must find for the golden users. A sound one finds 98 %."""

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
    if bundle.towers is not None and bundle.index is not None:
        _check_index(bundle, bundle.towers.user(users), products.shape[1])
    propensity = bundle.ranker.propensity(users, products, affinity)
    _compare(bundle, "propensity", propensity, np.array(content["propensity"]), TOLERANCE)


def _check_index(bundle: "MarketBundle", vectors: Floats, count: int) -> None:
    every, worth = np.ones(len(bundle.product_ids), np.bool_), bundle.worth
    exact, ours = exactly_nearest(worth, vectors, count, every), nearest(worth, bundle.index, vectors, count, every)
    found = float(np.mean([np.isin(*pair).mean() for pair in zip(exact, ours, strict=True)]))
    if found < FOUND:
        raise BundleError(
            f"bundle {bundle.name}: the index finds {found:.0%} of the first {count} products of the golden users,"
            f" expected {FOUND:.0%} at least: train it again"
        )


def _compare(bundle: "MarketBundle", what: str, found: NDArray[Any], expected: NDArray[Any], tolerance: float) -> None:
    if not np.allclose(found, expected, rtol=0, atol=tolerance):
        row, column = np.unravel_index(int(np.argmax(np.abs(found - expected))), found.shape)
        raise BundleError(
            f"bundle {bundle.name}: golden user {row + 1} has {what} {found[row, column]:.6f}, expected"
            f" {expected[row, column]:.6f}; it was made with"
            f" {', '.join(f'{name} {version}' for name, version in bundle.manifest.libraries.items())}"
        )
