"""What another catalogue would change for the same customers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from offers.policy.arbitration import Policy
from offers.policy.pairs import Columns

Score = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""A bundle's scoring function: contract columns to propensities."""


@dataclass(frozen=True)
class FirstPlaces:
    """Whom a policy puts which offer first.

    Attributes
    ----------
    offers : ids
    probability : ndarray, shape (n_customers, n_offers + 1); the last one is that of no offer, each row sums to 1
    expected : expected earnings of the first places, EUR per customer
    """

    offers: tuple[str, ...]
    probability: np.ndarray
    expected: float

    def customers(self, offer: str) -> float:
        """Expected number of customers who have an offer first; 0 for one that the catalogue lacks."""
        return float(self.probability[:, self.offers.index(offer)].sum()) if offer in self.offers else 0.0

    @property
    def nothing(self) -> float:
        """Expected number of customers who get no offer."""
        return float(self.probability[:, -1].sum())


def first_places(policy: Policy, columns: Columns, score: Score) -> FirstPlaces:
    """Compute the first places that a policy gives to customers.

    Parameters
    ----------
    columns : as `Policy.expand` takes them
    """
    pairs = policy.expand(columns)
    propensity = score(pairs.columns) if len(pairs) else np.empty(0)
    probability, margin = policy.first_place(pairs, propensity)
    expected = float(np.where(probability > 0, probability * margin, 0.0).sum() / max(len(probability), 1))
    rest = 1 - probability.sum(axis=1, keepdims=True)
    return FirstPlaces(tuple(offer.id for offer in policy.offers), np.hstack([probability, rest.clip(0, 1)]), expected)


def moved(before: FirstPlaces, after: FirstPlaces) -> float:
    """Compute the share of first places that differ, in [0, 1].

    It is the total variation distance of the two policies' first places, averaged over customers: without exploration
    the share of customers who have another first offer, or none any more.
    """
    ids = list(dict.fromkeys((*before.offers, *after.offers)))
    same = np.minimum(before.probability[:, -1], after.probability[:, -1])
    for offer in ids:
        if offer in before.offers and offer in after.offers:
            columns = (one.probability[:, one.offers.index(offer)] for one in (before, after))
            same = same + np.minimum(*columns)
    return float(1 - same.mean()) if len(same) else 0.0
