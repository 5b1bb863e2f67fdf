"""Turn decisions in columns into the answers of a service: one ranking per customer, with reasons in words."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from offers.policy.catalogue import BEYOND_K, FAMILY_LIMIT, NOT_WORTH_ITS_COST, Offer
from offers.policy.decided import COSTLY, CROWDED, LATE, RULED_OUT, Decided, bit
from offers.policy.eligibility import Eligibility
from offers.policy.ranking import WHY_HERE, RankedOffer, Ranking, Reason, WithheldOffer, split

_AFTER_RULES = {
    COSTLY: (Reason(NOT_WORTH_ITS_COST, "arbitration", True, "its expected margin does not pay for the contact"),),
    CROWDED: (Reason(FAMILY_LIMIT, "arbitration", True, "better offers fill the limit of its family"),),
    LATE: (Reason(BEYOND_K, "arbitration", True, "better offers fill the answer"),),
}


def rankings(decided: Decided, offers: Sequence[Offer], eligibility: Eligibility) -> list[Ranking]:
    """Build each customer's ranking from the decisions of a policy that has these offers and rules."""
    return list(map(Ranking, _ranked(decided, offers), _withheld(decided, offers, eligibility)))


def _ranked(decided: Decided, offers: Sequence[Offer]) -> Iterator[tuple[RankedOffer, ...]]:
    pair = decided.customer, decided.offer
    fields = zip(
        map(offers.__getitem__, decided.offer.tolist()),
        decided.rank.tolist(),
        _floats(decided.propensity[pair]),
        decided.standing.weight[pair].tolist(),
        _floats(decided.score[pair]),
        decided.action_probability[pair].tolist(),
        map(_words, decided.reasons[pair].tolist()),
        strict=True,
    )
    return split(_tuples(RankedOffer, fields), np.bincount(decided.customer, minlength=len(decided)))


def _withheld(
    decided: Decided, offers: Sequence[Offer], eligibility: Eligibility
) -> Iterator[tuple[WithheldOffer, ...]]:
    pair = customer, offer = np.nonzero(decided.fate)
    by_rules = eligibility.reasons(decided.standing.judgement, decided.standing.asked)
    fields = zip(
        map(offers.__getitem__, offer.tolist()),
        [next(by_rules) if fate == RULED_OUT else _AFTER_RULES[fate] for fate in decided.fate[pair].tolist()],
        _floats(decided.score[pair]),
        decided.action_probability[pair].tolist(),
        strict=True,
    )
    return split(_tuples(WithheldOffer, fields), np.bincount(customer, minlength=len(decided)))


@cache
def _words(bits: int) -> tuple[str, ...]:
    return tuple(code for code in WHY_HERE if bits & bit(code))


def _floats(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _tuples(kind: Any, fields: Iterable[tuple[Any, ...]]) -> list[Any]:
    # One answer holds thousands of these tuples, and a named tuple's own constructor takes three times as long.
    return list(map(partial(tuple.__new__, kind), fields))
