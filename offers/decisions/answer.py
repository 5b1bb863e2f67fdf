"""An answer as it is sent and logged: the prediction for one customer, as JSON without the customer's id."""

from functools import cache
from typing import Any

import orjson

from offers.policy.ranking import RankedOffer, Ranking, Reason, WithheldOffer


def written(decision_id: str, as_of: str, versions: dict[str, str | None], fallback: bool, ranking: Ranking) -> bytes:
    """Write an answer as bytes; the same ranking always gives the same bytes, so a decision can be reproduced."""
    return orjson.dumps(
        {
            "decision_id": decision_id,
            "as_of": as_of,
            "versions": versions,
            "fallback": fallback,
            "offers": list(map(_ranked, ranking.ranked)),
            "withheld": list(map(_withheld, ranking.withheld)),
        }
    )


def addressed(customer_id: str, answer: bytes) -> bytes:
    """Put the customer's id in front of the answer, as the caller gets it."""
    return b'{"customer_id":%b,%b' % (orjson.dumps(customer_id), answer[1:])


def _ranked(entry: RankedOffer) -> dict[str, Any]:
    return {
        "offer_id": entry.offer.id,
        "rank": entry.rank,
        "propensity": entry.propensity,
        "value": entry.offer.value,
        "score": entry.score,
        "action_probability": entry.action_probability,
        "reasons": entry.reasons,
    }


def _withheld(entry: WithheldOffer) -> dict[str, Any]:
    return {
        "offer_id": entry.offer.id,
        "score": entry.score,
        "action_probability": entry.action_probability,
        "reasons": list(map(_reason, entry.reasons)),
    }


@cache
def _reason(reason: Reason) -> dict[str, Any]:
    return reason._asdict()
