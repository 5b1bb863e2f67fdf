"""The answer of a recommendation as it is sent and logged: JSON without the user's id."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from offers.retrieval.arbitration import BEYOND, CROWDED, REQUIRED, Recommended

_TEXTS = {
    REQUIRED: "A pair that the contract requires does not hold.",
    CROWDED: "The answer has as many of this family as may be.",
    BEYOND: "Others have taken the places.",
}

Sentences = Sequence[Sequence[str]]
"""For each of the offers why its propensity is what it is; empty where that was not asked for."""


def written(
    facts: Mapping[str, Any], products: Sequence[str], recommended: Recommended, sentences: Sentences, withheld: bool
) -> bytes:
    """Write an answer as bytes; the same decision always gives the same bytes, so it can be reproduced.

    Parameters
    ----------
    facts : what stands before the offers
    products : ids by place
    withheld : whether withheld offers are listed; how many there are by reason is always told
    """
    ids = [products[place] for place in recommended.candidates.tolist()]
    columns = (recommended.propensity, recommended.value, recommended.score, recommended.first)
    propensity, value, score, first = (column.tolist() for column in columns)
    offers = [
        {
            "offer_id": ids[one],
            "rank": rank,
            "propensity": propensity[one],
            "value": value[one],
            "score": score[one],
            "action_probability": first[one],
            "reasons": (why, *(sentences[rank - 1] if sentences else ())),
        }
        for rank, (one, why) in enumerate(zip(recommended.offers, recommended.why, strict=True), 1)
    ]
    others = [
        {
            "offer_id": ids[one],
            "score": score[one],
            "action_probability": first[one],
            "reasons": list(map(_reason, codes)),
        }
        for one, codes in (recommended.withheld.items() if withheld else ())
    ]
    counts = {"withheld_by_reason": recommended.counts}
    return orjson.dumps({**facts, "offers": offers, "withheld": others, **counts})


def _reason(code: str) -> dict[str, Any]:
    kind = "eligibility" if code.startswith(REQUIRED) else "arbitration"
    return {"code": code, "kind": kind, "evaluated": True, "text": _TEXTS[code.partition(":")[0]]}
