"""The customers whom a campaign leaves out, and the limit that keeps them out."""

from dataclasses import dataclass

import numpy as np

from offers.batch.allocation import Plan
from offers.batch.campaign import Constraints
from offers.batch.prices import blocks


@dataclass(frozen=True)
class LeftOut:
    """Customers without a contact.

    Attributes
    ----------
    limit : place of the constraint with the highest price on their best offer; None where none has a price there
    customers : number of customers
    earning : mean expected earnings of their best offers, EUR
    """

    limit: int | None
    customers: int
    earning: float


def left_out(scores: np.ndarray, constraints: Constraints, plan: Plan, most: np.ndarray) -> list[LeftOut]:
    """Group the customers whom a plan does not contact by the limit that keeps them out, the largest group first.

    Customers who may have no contact at all are in no group.

    Parameters
    ----------
    scores, most : as `offers.batch.allocation.allocate` takes them
    """
    contacted = most == 0
    contacted[plan.customer] = True
    costs = plan.pricing.prices[:, None] * constraints.usage
    dearest = np.where(costs.max(axis=0, initial=0) > 0, costs.argmax(axis=0) if len(costs) else 0, -1)
    counts, sums = np.zeros(len(costs) + 1), np.zeros(len(costs) + 1)
    for start, block in blocks(scores):
        without = block[~contacted[start : start + len(block)]]
        best = without.argmax(axis=1)
        earning = without[np.arange(len(without)), best]
        limit = dearest[best][np.isfinite(earning)]
        np.add.at(counts, limit, 1)
        np.add.at(sums, limit, earning[np.isfinite(earning)])
    groups = [
        LeftOut(place if place < len(costs) else None, int(count), float(total / count))
        for place, (count, total) in enumerate(zip(counts, sums, strict=True))
        if count
    ]
    return sorted(groups, key=lambda group: -group.customers)
