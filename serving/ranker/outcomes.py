"""POST /v1/outcomes: what customers did about decisions, in batches, through the spool of the decision log."""

from datetime import UTC, datetime
from typing import Any

from offers.decisions import log as events
from offers.decisions.outcome import ID_LENGTH, KINDS, LONGEST, OPTIONAL, REQUIRED, SKEW, checked
from offers.decisions.spool import SpoolFull
from offers.errors import DataError, RequestError, RequestTooLarge, StorageError
from offers.wording import shown
from serving.process.logs import log, request_id
from serving.process.telemetry import OUTCOMES
from serving.protocol.schemas import Schema, list_of, record
from serving.ranker.decision_log import DecisionLog, LogFull

PATH = "/v1/outcomes"
MAX_OUTCOMES = 10_000
EXAMPLE = {
    "outcomes": [
        {"decision_id": "4b1c0c6f0f6a4a3f8d1d0c5ad1e7b0a2", "kind": "accepted", "observed_at": "2024-05-31T12:00:00Z"}
    ]
}


class OutcomesTaker:
    """Takes outcomes for the log. Sent again they do no harm: of decision, offer and kind the first counts."""

    def __init__(self, decision_log: DecisionLog) -> None:
        self.decision_log = decision_log

    async def take(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Check the body of a request and log its outcomes, all or none.

        Returns
        -------
        dict
            how many are `logged`, and how many of these are from the future and so go to `quarantine`

        Raises
        ------
        RequestTooLarge
            there are more than `MAX_OUTCOMES`
        RequestError
            names the first field that is wrong
        LogFull
            there is no room; nothing was logged
        """
        outcomes, received_at = _read(payload), datetime.now(UTC)
        try:
            self.decision_log.spool.append(events.observed(outcomes, received_at, request_id.get()))
        except (SpoolFull, StorageError) as error:
            log.error("outcomes not logged", extra={"fields": {"rows": len(outcomes), "reason": str(error)}})
            raise LogFull from None
        await self.decision_log.durable()
        OUTCOMES.inc(len(outcomes))
        future = sum(datetime.fromisoformat(item["observed_at"]) > received_at + SKEW for item in outcomes)
        return {"logged": len(outcomes), "quarantined": future}


def schema() -> Schema:
    """What a request has to hold."""
    text = {name: {"type": "string", "maxLength": LONGEST.get(name, ID_LENGTH)} for name in (*REQUIRED, *OPTIONAL)}
    requirements = {name: text[name] | {"minLength": 1} for name in REQUIRED} | {"kind": {"enum": list(KINDS)}}
    requirements["observed_at"] |= {"description": "A moment as ISO 8601 writes it; in UTC where it has no offset."}
    properties = {name: text[name] | {"type": ["string", "null"]} for name in OPTIONAL}
    properties["why"] |= {"description": "Needed where a person has overridden the decision."}
    outcome = record(requirements | properties, "Outcome", optional=OPTIONAL, closed=True)
    outcomes = list_of(outcome, at_least=1) | {"maxItems": MAX_OUTCOMES}
    return record({"outcomes": outcomes}, closed=True)


def answer_schema() -> Schema:
    """What is answered."""
    return record({"logged": {"type": "integer"}, "quarantined": {"type": "integer"}})


def _read(payload: dict[str, Any]) -> list[dict[str, Any]]:
    items = payload.get("outcomes")
    if payload.keys() != {"outcomes"} or not isinstance(items, list):
        raise RequestError(f"the body: expected a list of objects as 'outcomes' alone, got {shown(payload)}")
    if not 1 <= len(items) <= MAX_OUTCOMES:
        kind = RequestTooLarge if items else RequestError
        raise kind(f"'outcomes': expected 1 to {MAX_OUTCOMES} in a request, got {len(items) or 'none'}")
    outcomes = []
    for row, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise RequestError(f"'outcomes', row {row}: expected an object, got {shown(item)}")
        try:
            outcomes.append(checked(item))
        except DataError as error:
            raise RequestError(f"'outcomes', row {row}: {error}") from None
    return outcomes
