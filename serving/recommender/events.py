"""POST /v1/events: what users did, in batches, through a spool, to their features."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from offers.contract.market import Market
from offers.decisions import log as events
from offers.decisions.outcome import SKEW
from offers.decisions.spool import Spool, SpoolFull
from offers.errors import RequestError, RequestTooLarge, StorageError
from offers.wording import shown
from serving.process.logs import log_event, request_id
from serving.protocol.schemas import Schema, list_of, record
from serving.ranker.decision_log import DecisionLog
from serving.recommender.metrics import EVENTS
from serving.recommender.updater import Updater

MAX_EVENTS = 10_000
ID_LENGTH = 128
REQUIRED = ("event_id", "user_id", "product_id", "event")
OPTIONAL = ("at", "position")


class EventsFull(Exception):  # noqa: N818
    """The events can't be kept, so they are not taken."""

    headers = {"Retry-After": "5"}  # noqa: RUF012


class EventsTaker:
    """Takes events of a market's users.

    Parameters
    ----------
    market : says which events there are
    is_product : whether there is such a product
    spool : keeps events until they have moved features
    updater : lets them do that
    decision_log : keeps them for the tables, with pseudonyms in place of ids; None where nobody keeps them
    """

    def __init__(
        self,
        market: Market,
        is_product: Callable[[str], bool],
        spool: Spool,
        updater: Updater,
        decision_log: DecisionLog | None = None,
    ) -> None:
        self.market, self.spool, self.updater, self.decision_log = market, spool, updater, decision_log
        self._is_product = is_product
        self._names = {event.name for event in market.events}

    async def take(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Check the body of a request, keep its events, all or none, and pass on those that can count.

        Returns
        -------
        dict
            how many are `logged`, and of these how many are `left_out` of features, by reason

        Raises
        ------
        RequestTooLarge
            there are more than MAX_EVENTS
        RequestError
            names the first field that is wrong
        EventsFull
            there is no room; nothing was kept
        """
        received_at = datetime.now(UTC)
        items = [self._checked(item, row, received_at) for row, item in enumerate(_listed(payload), 1)]
        try:
            # An event that only one of both has kept is sent again, and known by its id.
            if log := self.decision_log:
                log.spool.append(events.interacted(items, received_at, request_id.get(), log.pseudonyms))
            self.spool.append(events.interacted(items, received_at, request_id.get()))
        except (SpoolFull, StorageError) as error:
            log_event("events not logged", rows=len(items), reason=str(error))
            raise EventsFull("there is no room for events until others have been taken: try again in 5 s") from None
        await self.spool.durable()
        if self.decision_log:
            await self.decision_log.durable()
        self.updater.offer(items)
        left_out = Counter(item["left_out"] for item in items if item["left_out"])
        for reason, count in left_out.items():
            EVENTS.labels(reason).inc(count)
        return {"logged": len(items), "left_out": left_out}

    def schema(self) -> Schema:
        """Describe what a request has to hold."""
        text = {"type": "string", "minLength": 1, "maxLength": ID_LENGTH}
        described = {
            "event_id": text | {"description": "The caller's own; an event that comes again is known by it."},
            "user_id": text,
            "product_id": text,
            "event": text | {"description": f"One of {', '.join(event.name for event in self.market.events)}."},
            "at": {
                "type": ["string", "null"],
                "description": "When, in ISO 8601, in UTC without offset; now if absent.",
            },
            "position": {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "The product's place in the answer.",
            },
        }
        event = record(described, "Event", optional=OPTIONAL, closed=True)
        return record({"events": list_of(event, at_least=1) | {"maxItems": MAX_EVENTS}}, closed=True)

    def example(self, product: str) -> Schema:
        name = self.market.events[min(1, len(self.market.events) - 1)].name
        return {"events": [{"event_id": "e-1", "user_id": "42", "product_id": product, "event": name, "position": 1}]}

    def _checked(self, item: Any, row: int, received_at: datetime) -> dict[str, Any]:
        where = f"'events', row {row}"
        if not isinstance(item, dict):
            raise RequestError(f"{where}: expected an object, got {shown(item)}")
        if strange := [name for name in item if name not in (*REQUIRED, *OPTIONAL)]:
            raise RequestError(f"{where}: field {strange[0]!r:.80}: expected {', '.join((*REQUIRED, *OPTIONAL))}")
        for name in REQUIRED:
            value = item.get(name)
            if not isinstance(value, str) or not 1 <= len(value) <= ID_LENGTH:
                expected = f"expected text of 1 to {ID_LENGTH} characters"
                raise RequestError(f"{where}: field {name!r}: {expected}, got {value!r:.80}")
        position = item.get("position")
        if position is not None and (type(position) is not int or not 1 <= position <= 10_000):
            raise RequestError(
                f"{where}: field 'position': expected a whole number from 1 to 10000, got {position!r:.80}"
            )
        at = _moment(item["at"], where) if item.get("at") is not None else received_at
        left_out = (
            "unknown_event" if item["event"] not in self._names
            else "unknown_product" if not self._is_product(item["product_id"])
            else "future" if at > received_at + SKEW
            else ""
        )  # fmt: skip
        # Within the skew of clocks nothing is later than its arrival, or the next answer would not see it.
        moment = int(min(at, received_at).timestamp() * 1e6) if not left_out else int(at.timestamp() * 1e6)
        own = {name: item[name] for name in REQUIRED}
        return own | {"at": moment, "position": position, "left_out": left_out}


def answer_schema() -> Schema:
    """Describe what is answered."""
    reasons = {"type": "object", "additionalProperties": {"type": "integer"}}
    return record({"logged": {"type": "integer"}, "left_out": reasons})


def _listed(payload: Mapping[str, Any]) -> list[Any]:
    items = payload.get("events")
    if payload.keys() != {"events"} or not isinstance(items, list):
        raise RequestError(f"the body: expected a list of objects as 'events' alone, got {shown(payload)}")
    if not 1 <= len(items) <= MAX_EVENTS:
        kind = RequestTooLarge if items else RequestError
        raise kind(f"'events': expected 1 to {MAX_EVENTS} in a request, got {len(items) or 'none'}")
    return items


def _moment(text: object, where: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        if moment is not None and 1970 < moment.year < 3000:
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise RequestError(f"{where}: field 'at': expected a moment such as 2024-05-31T12:00Z, got {text!r:.80}")
