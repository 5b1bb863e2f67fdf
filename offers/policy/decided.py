"""The decisions about a batch of customers, in columns."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from offers.policy.pairs import Standing
from offers.policy.ranking import WHY_HERE

SHOWN, RULED_OUT, COSTLY, CROWDED, LATE = range(5)
"""The fate of a pair: in the answer, or withheld by a rule, by its cost, by its family's limit, by k."""


@dataclass(frozen=True)
class Decided:
    """What arbitration decides for each customer.

    Attributes
    ----------
    standing : the offers that were asked for, and the verdicts of the rules
    customer, rank, offer : ndarray of int, shape (n_ranked,)
        the pairs in the answers, by customer, then by rank; `offer` is a place in `Policy.offers`
    propensity, score : ndarray, shape (n_customers, n_offers)
        score in EUR; both NaN where a pair was not scored
    action_probability : ndarray, shape (n_customers, n_offers)
        probability that an offer is put first, whatever rank it got in the end
    reasons : ndarray of int, shape (n_customers, n_offers)
        for a pair in the answer, bit i stands for `WHY_HERE[i]`
    fate : ndarray of int, shape (n_customers, n_offers)
        why a pair is not in the answer; `SHOWN` where it is, and where it was not asked for
    """

    standing: Standing
    customer: np.ndarray
    rank: np.ndarray
    offer: np.ndarray
    propensity: np.ndarray
    score: np.ndarray
    action_probability: np.ndarray
    reasons: np.ndarray
    fate: np.ndarray

    def __len__(self) -> int:
        return len(self.fate)


@cache
def bit(code: str) -> int:
    """The bit of a reason in `Decided.reasons`."""
    return 1 << WHY_HERE.index(code)
