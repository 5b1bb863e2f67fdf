"""Who gets which offer first, and what that is expected to earn, as counters for Prometheus."""

from collections import Counter
from collections.abc import Sequence

from offers.policy.ranking import Ranking
from serving.process.telemetry import EXPECTED_VALUE, FIRST_PLACES
from serving.ranker.part import Part

MOST_SERIES = 200
"""Offers of a catalogue up to which each has a series of its own; of a larger one each family has."""
NOBODY, NOTHING = "none", "nothing"
"""The arm of customers who are in no experiment, and the offer of those to whom none is made."""


def count(part: Part, rankings: Sequence[Ranking]) -> None:
    """Count the offers in first place, and their propensity × value in EUR, which a fallback does not know."""
    arm, own = part.membership.arm if part.membership else NOBODY, len(part.policy.offers) <= MOST_SERIES
    places, value = Counter[str](), 0.0
    for ranking in rankings:
        if not ranking.ranked:
            places[NOTHING] += 1
            continue
        first = ranking.ranked[0]
        places[first.offer.id if own else first.offer.family] += 1
        value += (first.propensity or 0.0) * first.offer.value
    for name, customers in places.items():
        FIRST_PLACES.labels(arm, name).inc(customers)
    EXPECTED_VALUE.labels(arm).inc(value)
