"""Shadow prices of a campaign's constraints, and the bound that they prove, in streaming passes over the customers.

This solves the Lagrangian dual. With a price on each constraint, every customer takes the best offers by score minus
price. The earnings of these contacts, plus prices times limits, are an upper bound on every plan. The dual is convex
and piecewise linear in the prices. Cutting planes minimise it within a box that follows the best prices: Kelley (1960),
"The cutting-plane method for solving convex programs", and Marsten, Hogan and Blankenship (1975), "The BOXSTEP method
for large-scale optimization".
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from mmap import MADV_DONTNEED, mmap

import numpy as np
from scipy.optimize import linprog

from offers.batch.campaign import Constraints

BLOCK = 65_536
SAMPLE = 50_000
PASSES, GAP = 80, 1e-5


@dataclass(frozen=True)
class Pricing:
    """Prices in EUR for one more unit of each constraint, and the most that any plan could earn, in EUR."""

    prices: np.ndarray
    bound: float


def price(scores: np.ndarray, constraints: Constraints, most: np.ndarray | None = None) -> Pricing:
    """Find prices. Where there are many customers, a sample of them gives the prices to start from.

    Parameters
    ----------
    scores : ndarray or memmap, shape (n_customers, n_offers), EUR; -inf where the customer can't get the offer
    most : ndarray of int, shape (n_customers,), the most contacts of each customer; by default `per_customer`
    """
    start = np.zeros(len(constraints.names))
    most = np.full(len(scores), constraints.per_customer, np.uint8) if most is None else most
    if not len(start):
        return Pricing(start, _dual(scores, constraints, start, most)[0])
    width = max(1.0, float(scores[:SAMPLE].max(initial=0.0)))
    if len(scores) > 2 * SAMPLE:
        step = len(scores) // SAMPLE
        some = np.array(scores[::step])
        fewer = replace(constraints, limit=constraints.limit * len(some) / len(scores))
        start, width = _minimise(some, fewer, start, width, most[::step]).prices, width / 50
    return _minimise(scores, constraints, start, width, most)


def chosen(
    block: np.ndarray, constraints: Constraints, prices: np.ndarray, most: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mark the offers that customers take at these prices; returns the mask, and scores minus prices.

    Parameters
    ----------
    most : ndarray of int, shape (n_customers,), the most contacts of each customer
    """
    reduced = block - prices @ constraints.usage
    if constraints.per_customer == 1:
        best = (np.arange(block.shape[1]) == reduced.argmax(axis=1)[:, None]) & (most > 0)[:, None]
    else:
        order = np.argsort(-reduced, axis=1, kind="stable")
        best = np.argsort(order, axis=1) < most[:, None]
    return best & (reduced > 0), reduced


def blocks(scores: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the scores of some customers at a time, in float64, each with the place of its first customer."""
    for start in range(0, len(scores), BLOCK):
        yield start, np.array(scores[start : start + BLOCK], np.float64)
        # Else the pages of a whole file stay in memory from its first pass on.
        if isinstance(scores.base, mmap):
            scores.base.madvise(MADV_DONTNEED)


def _dual(
    scores: np.ndarray, constraints: Constraints, prices: np.ndarray, most: np.ndarray
) -> tuple[float, np.ndarray]:
    """Compute the bound at these prices, and its slope (a subgradient)."""
    value, contacts = 0.0, np.zeros(constraints.usage.shape[1])
    for start, block in blocks(scores):
        choices, reduced = chosen(block, constraints, prices, most[start : start + BLOCK])
        value += float(reduced[choices].sum())
        contacts += choices.sum(axis=0)
    return value + float(prices @ constraints.limit), constraints.limit - constraints.usage @ contacts


def _minimise(
    scores: np.ndarray, constraints: Constraints, start: np.ndarray, width: float, most: np.ndarray
) -> Pricing:
    value, slope = _dual(scores, constraints, start, most)
    best, bound = start, value
    slopes, offsets = [slope], [value - slope @ start]
    for _ in range(PASSES):
        # The last variable of the linear program is the height of the cuts' upper envelope.
        box = [(max(0.0, price - width), price + width) for price in best]
        rows = np.column_stack([np.array(slopes), -np.ones(len(slopes))])
        cost = np.append(np.zeros(len(best)), 1.0)
        answer = linprog(cost, rows, -np.array(offsets), bounds=[*box, (None, None)], method="highs")
        if not answer.success:
            break
        prices, promised = answer.x[:-1], float(answer.x[-1])
        if bound - promised <= GAP * max(1.0, abs(bound)):
            if all(price - low > 1e-9 or low == 0 for price, (low, _) in zip(prices, box, strict=True)) and all(
                high - price > 1e-9 for price, (_, high) in zip(prices, box, strict=True)
            ):
                break
            width *= 4
        value, slope = _dual(scores, constraints, prices, most)
        slopes.append(slope)
        offsets.append(value - slope @ prices)
        if value < bound - 0.1 * (bound - promised):
            best, bound = prices, value
        else:
            width = max(width / 2, 1e-6)
            if value < bound:
                best, bound = prices, value
    return Pricing(best, bound)
