"""An answer as it is sent and logged: the prediction for one customer, as JSON without the customer's id."""

from functools import cache
from typing import Any

import orjson

from offers.policy.explanation import Explanation
from offers.policy.ranking import WHY_HERE, RankedOffer, Ranking, Reason, WithheldOffer


def written(
    decision_id: str,
    as_of: str,
    versions: dict[str, str | None],
    fallback: bool,
    ranking: Ranking,
    explanation: Explanation | None = None,
) -> bytes:
    """Write an answer as bytes; the same ranking always gives the same bytes, so a decision can be reproduced.

    An explanation adds its sentences to the reasons of the first offer, and `principal_reasons` to withheld ones.
    """
    ranked, withheld = list(map(_ranked, ranking.ranked)), list(map(_withheld, ranking.withheld))
    if explanation is not None:
        for offer in ranked[:1]:
            offer["reasons"] = (*offer["reasons"], *explanation.first)
        for offer, sentences in zip(withheld, explanation.withheld, strict=False):
            offer["principal_reasons"] = sentences
    return orjson.dumps(
        {
            "decision_id": decision_id,
            "as_of": as_of,
            "versions": versions,
            "fallback": fallback,
            "offers": ranked,
            "withheld": withheld,
        }
    )


def explanation_in(answer: bytes) -> Explanation | None:
    """Read the explanation back from an answer; None where none was asked for, or where it is no answer of ours."""
    try:
        content = orjson.loads(answer)
        first = tuple(word for offer in content["offers"][:1] for word in offer["reasons"] if word not in WHY_HERE)
        withheld = tuple(tuple(offer.get("principal_reasons", ())) for offer in content["withheld"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Explanation(first, withheld) if first or any(withheld) else None


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
