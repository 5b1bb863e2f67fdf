"""What the recommender answers to, as an OpenAPI 3.1 document: made from the market that it serves."""

from importlib.metadata import version
from typing import Any

from serving.protocol.openapi import REQUEST_ID, body, get, post
from serving.protocol.schemas import Schema, list_of, record, share
from serving.ranker import outcomes
from serving.recommender.events import EventsTaker, answer_schema
from serving.recommender.metrics import GROUNDS
from serving.recommender.service import ID_LENGTH, MOST_K, Recommendations

RECOMMEND, EVENTS = "/recommend", "/v1/events"

_DESCRIPTION = """\
Every answer is JSON but for the metrics, and every error is `{"error": "one sentence"}`. A user of whom nothing is \
known gets what is popular, and so does everybody while the online store is away: `ground` says which it was."""
_TEXT, _NULL = {"type": "string"}, {"type": "null"}


def document(recommendations: Recommendations, events: EventsTaker | None) -> Schema:
    """Describe the service as an OpenAPI 3.1 document, ready for JSON."""
    market = recommendations.bundle.market
    error = record({"error": _TEXT | {"description": "One sentence."}}, "Error")
    paths: Schema = {f"{RECOMMEND}/{{user_id}}": _recommend(recommendations)}
    if events:
        paths[EVENTS] = post(
            "What did users do?",
            "Takes events. They move the features of their users at once, and one that comes again does no harm. Events"
            " from the future, or of an unknown kind or product, are kept and move nothing.",
            body(events.schema(), events.example(recommendations.bundle.product_ids[0])),
            answer_schema(),
        )
    if recommendations.decision_log:
        paths[outcomes.PATH] = post(
            "What did users do about a decision?",
            "Takes outcomes of decisions; sent again they do no harm.",
            body(outcomes.schema(), outcomes.EXAMPLE),
            outcomes.answer_schema(),
        )
    ready = record({"ready": {"const": True}, "degraded": _TEXT}, optional=["degraded"])
    paths |= {
        "/": get("Service", "Is the process alive?", record({"alive": {"const": True}})),
        "/readyz": get("Service", "Does it answer?", ready, 503),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Offers recommender: {market.title}",
            "version": version("offers"),
            "description": _DESCRIPTION,
        },
        "tags": [
            {"name": "Decisions", "description": "What it is for."},
            {"name": "Service", "description": "Health."},
        ],
        "paths": paths,
        "components": {"schemas": {"Error": error}, "headers": {"RequestId": REQUEST_ID}},
    }


def _recommend(recommendations: Recommendations) -> Schema:
    settings = recommendations.bundle.market.recommendation
    text = _TEXT | {"minLength": 1, "maxLength": ID_LENGTH}
    parameters: list[dict[str, Any]] = [
        {"name": "user_id", "in": "path", "required": True, "example": "42", "schema": text},
        {
            "name": "k",
            "in": "query",
            "description": f"Places; by default {settings.k}.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST_K},
        },
        {"name": "explain", "in": "query", "description": "Reasons in sentences.", "schema": {"type": "boolean"}},
        {"name": "withheld", "in": "query", "description": "List withheld offers.", "schema": {"type": "boolean"}},
    ]
    parameters += [
        {"name": name, "in": "query", "description": "Of an unknown user.", "schema": {"enum": list(words)}}
        for name, words in recommendations.segments.items()
    ]
    operation = get("Decisions", "Which products for whom?", _answer(), 400, 503)["get"]
    operation["description"] = (
        "Ranks products for a user by the expected value of showing them, within the rules of the contract. An unknown"
        " user gets what is popular, within the segment where it is named."
    )
    return {"parameters": parameters, "get": operation}


def _answer() -> Schema:
    number: Schema = {"type": ["number", "null"]}
    own: Schema = {"offer_id": _TEXT, "score": number, "action_probability": share("Of standing first.")}
    offer = own | {
        "rank": {"type": "integer", "minimum": 1},
        "propensity": number | {"description": "Probability of acceptance; null where nothing was scored."},
        "value": {"type": "number"},
        "reasons": list_of(_TEXT),
    }
    reason = {"code": _TEXT, "kind": _TEXT, "evaluated": {"type": "boolean"}, "text": _TEXT}
    versions = {"model": {"type": ["string", "null"]}, "policy": _TEXT, "catalogue": _TEXT}
    fields = {
        "user_id": _TEXT,
        "decision_id": _TEXT,
        "as_of": _TEXT,
        "versions": record(versions, "Versions"),
        "fallback": {
            "type": "boolean",
            "description": "Whether popularity stands in for scores that can't be had.",
        },
        "ground": {"enum": list(GROUNDS)},
        "loaded_at": {"anyOf": [_TEXT, _NULL], "description": "The moment of the load that the user's row is of."},
        "stale": list_of(_TEXT, "Tables and features beyond their time to live."),
        "offers": list_of(record(offer, "RankedOffer"), "The best first."),
        "withheld": list_of(
            record(own | {"reasons": list_of(record(reason, "Reason"))}, "WithheldOffer"),
            "Candidates that are not among the offers; empty where nobody asked for them.",
        ),
        "withheld_by_reason": {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "description": "How many candidates are withheld, by the code of the reason.",
        },
    }
    return record(fields, "Recommendation")
