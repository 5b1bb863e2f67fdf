"""Turns the events of a sealed segment into rows of the log's tables; unreadable events are quarantined."""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, repeat
from operator import itemgetter
from typing import Any

import orjson
import pyarrow as pa

from offers.decisions.log import DECIDED, INTERACTED, MARKET_POLICY, OBSERVED, POLICY
from offers.decisions.outcome import SKEW
from offers.decisions.segment import Damage

DECISIONS, OUTCOMES, POLICIES, QUARANTINE = "decisions", "outcomes", "policies", "quarantine"
INTERACTIONS = "interactions"

_MOMENT = pa.timestamp("us", tz="UTC")
_PAIR = pa.struct(
    [
        ("offer_id", pa.string()),
        ("propensity", pa.float64()),
        ("score", pa.float64()),
        ("action_probability", pa.float64()),
    ]
)
ADDED = {"ledger_head": pa.string(), "caller": pa.string(), "latency_ms": pa.float64()}
"""Columns of decisions that earlier versions did not write. A digest covers each where it has a value."""

_WRITTEN = [("writer", pa.string()), ("segment", pa.int64()), ("place", pa.int32())]
SCHEMAS = {
    POLICIES: pa.schema(
        [
            ("date", pa.date32()),
            *((name, pa.string()) for name in ("catalogue", "catalogue_text", "contract", "contract_text", "code")),
            *_WRITTEN,
        ]
    ),
    DECISIONS: pa.schema(
        [
            ("date", pa.date32()),
            ("decided_at", _MOMENT),
            *((name, pa.string()) for name in ("decision_id", "request_id", "customer", "key_id")),
            *((name, pa.string()) for name in ("contract", "catalogue", "policy", "model", "code")),
            *((name, pa.string()) for name in ("experiment", "arm")),
            ("fallback", pa.bool_()),
            ("as_of", pa.string()),
            ("k", pa.int32()),
            ("asked", pa.list_(pa.string())),
            ("inputs", pa.string()),
            ("pairs", pa.list_(_PAIR)),
            ("offer_id", pa.string()),
            ("answer", pa.string()),
            *_WRITTEN,
            *((name, pa.string()) for name in ("salt", "digest", "root")),
            *ADDED.items(),
        ]
    ),
    OUTCOMES: pa.schema(
        [
            ("date", pa.date32()),
            ("observed_at", _MOMENT),
            ("received_at", _MOMENT),
            *((name, pa.string()) for name in ("decision_id", "offer_id", "kind", "why", "request_id")),
            *_WRITTEN,
        ]
    ),
    INTERACTIONS: pa.schema(
        [
            ("date", pa.date32()),
            ("at", _MOMENT),
            ("received_at", _MOMENT),
            *((name, pa.string()) for name in ("event_id", "customer", "key_id", "product_id", "event")),
            ("position", pa.int32()),
            *((name, pa.string()) for name in ("left_out", "request_id")),
            *_WRITTEN,
        ]
    ),
    QUARANTINE: pa.schema(
        [
            ("date", pa.date32()),
            ("quarantined_at", _MOMENT),
            *((name, pa.string()) for name in ("reason", "content")),
            *_WRITTEN,
        ]
    ),
}
"""The tables' columns. `inputs` and `answer` are JSON: the question as checked, and the answer as sent but for the
customer's id. `pairs` are the pairs that were scored, `offer_id` is the offer in first place. `digest` is the SHA-256
of `salt` and of the columns that `digest_of` names, `root` that of all digests of the segment. Interactions are events
of a market's users, by the day of their arrival; one that was sent again has the same `event_id`."""

_SEALED = [name for name in SCHEMAS[DECISIONS].names if name not in ("date", "salt", "digest", "root", *ADDED)]
_sealed = itemgetter(*_SEALED)

Row = dict[str, Any]


@dataclass
class Rows:
    """Rows by table, collected from one segment."""

    writer: str
    segment: int
    of: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in SCHEMAS})

    def add(self, table: str, moment: datetime, row: Row) -> None:
        """Add a row, which gets its date, that of its moment in UTC, and its place."""
        rows = self.of[table]
        row["date"], row["writer"], row["segment"], row["place"] = moment.date(), self.writer, self.segment, len(rows)
        rows.append(row)

    def quarantine(self, reason: str, content: str) -> None:
        """Keep content that can't be used, with the reason why."""
        now = datetime.now(UTC)
        self.add(QUARANTINE, now, {"quarantined_at": now, "reason": reason, "content": content})

    def tables(self) -> dict[str, pa.Table]:
        """Build the tables that have rows, ready to be appended."""
        _seal(self.of[DECISIONS])
        return {name: pa.Table.from_pylist(rows, SCHEMAS[name]) for name, rows in self.of.items() if rows}


def collected(lines: Iterable[bytes | Damage], writer: str, segment: int) -> Rows:
    """Turn the lines of a segment into rows. A damaged or unknown line never stops the others."""
    rows = Rows(writer, segment)
    for line in lines:
        if isinstance(line, Damage):
            rows.quarantine(f"byte {line.offset} of the segment: {line.reason}", _shown(line.content))
            continue
        try:
            event = orjson.loads(line)
            records = list(_TAKERS[event["type"]](event))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            expected = f"expected an event of type {', '.join(_TAKERS)}"
            rows.quarantine(f"{expected}; {type(error).__name__}: {error}"[:500], _shown(line))
            continue
        for table, moment, row in records:
            if table == QUARANTINE:
                rows.quarantine(row["reason"], row["content"])
            else:
                rows.add(table, moment, row)
    return rows


def digest_of(row: Mapping[str, Any]) -> str:
    """Compute the salted SHA-256 of a decision's columns, in the types in which the table returns them."""
    added = [[name, row[name]] for name in ADDED if row.get(name) is not None]
    content = orjson.dumps((*_sealed(row), *added), option=orjson.OPT_UTC_Z)
    return hashlib.sha256(row["salt"].encode() + b"\0" + content).hexdigest()


def root_of(digests: Iterable[str]) -> str:
    """Compute the SHA-256 of a segment's digests, in the order of their places."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _seal(decisions: list[Row]) -> None:
    for row in decisions:
        row["salt"] = secrets.token_hex(16)
        row["digest"] = digest_of(row)
    root = root_of(row["digest"] for row in decisions)
    for row in decisions:
        row["root"] = root


def _decisions(event: Row) -> Iterator[tuple[str, datetime, Row]]:
    data, decided_at = event["data"], _moment(event["time"])
    names, columns = list(data["columns"]), list(data["columns"].values())
    arms = data["arms"] or [None] * len(data["customers"])
    batch = {name: data[name] for name in ("request_id", "key_id", "contract", "catalogue", "policy", "model", "code")}
    batch |= {"experiment": data["experiment"], "fallback": data["fallback"], "decided_at": decided_at}
    batch |= {name: data.get(name) for name in ADDED}
    offers = data["offers"]
    heads = zip(data["customers"], data["asked"], data["k"], arms, strict=True)
    told = zip(data.get("score") or repeat(None), data.get("action_probability") or repeat(None), strict=False)
    for (customer, selection, k, arm), scores, answer, own, *values in zip(
        heads, data["propensity"], data["answers"], islice(told, len(data["customers"])), *columns, strict=True
    ):
        row = {
            **batch,
            "customer": customer,
            "asked": selection,
            "k": k,
            "arm": arm,
            "decision_id": answer["decision_id"],
            "as_of": answer["as_of"],
            "inputs": orjson.dumps(dict(zip(names, values, strict=True))).decode(),
            "pairs": _pairs(offers, scores, answer) if own[0] is None else _told(offers, scores, *own),
            "offer_id": answer["offers"][0]["offer_id"] if answer["offers"] else None,
            "answer": orjson.dumps(answer).decode(),
        }
        yield DECISIONS, decided_at, row


def _pairs(offers: list[str], propensity: list[float | None], answer: Row) -> list[Row]:
    """List the scored pairs, with the answer's figures for each."""
    entries = {entry["offer_id"]: entry for entry in (*answer["offers"], *answer["withheld"])}
    return [
        {
            "offer_id": offer_id,
            "propensity": value,
            "score": (entry := entries[offer_id])["score"],
            "action_probability": entry["action_probability"],
        }
        for offer_id, value in zip(offers, propensity, strict=True)
        if value is not None
    ]


def _told(offers: list[str], propensity: list[float | None], *others: list[float | None]) -> list[Row]:
    """List all pairs with the event's own figures, scored or not."""
    names = ("offer_id", "propensity", "score", "action_probability")
    return [dict(zip(names, values, strict=True)) for values in zip(offers, propensity, *others, strict=True)]


def _policies(event: Row) -> Iterator[tuple[str, datetime, Row]]:
    names = ("catalogue", "catalogue_text", "contract", "contract_text", "code")
    yield POLICIES, _moment(event["time"]), {name: event["data"][name] for name in names}


def _outcomes(event: Row) -> Iterator[tuple[str, datetime, Row]]:
    received_at, request_id = _moment(event["time"]), event["data"]["request_id"]
    for outcome in event["data"]["outcomes"]:
        observed_at = _moment(outcome["observed_at"])
        if observed_at > received_at + SKEW:
            reason = f"from the future: observed {observed_at.isoformat()}, received {received_at.isoformat()}"
            yield QUARANTINE, received_at, {"reason": reason, "content": orjson.dumps(outcome).decode()}
            continue
        row = {name: outcome[name] for name in ("decision_id", "offer_id", "kind", "why")}
        own = {"observed_at": observed_at, "received_at": received_at, "request_id": request_id}
        yield OUTCOMES, observed_at, row | own


def _interactions(event: Row) -> Iterator[tuple[str, datetime, Row]]:
    data, received_at = event["data"], _moment(event["time"])
    common = {"received_at": received_at, "key_id": data["key_id"], "request_id": data["request_id"]}
    for one in data["interactions"]:
        names = ("event_id", "customer", "product_id", "event", "position", "left_out")
        at = datetime.fromtimestamp(one["at"] / 1e6, UTC)
        yield INTERACTIONS, received_at, {name: one[name] for name in names} | common | {"at": at}


_TAKERS: dict[str, Callable[[Row], Iterator[tuple[str, datetime, Row]]]] = {
    DECIDED: _decisions,
    POLICY: _policies,
    MARKET_POLICY: _policies,
    OBSERVED: _outcomes,
    INTERACTED: _interactions,
}


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _shown(content: bytes) -> str:
    """Decode bytes as text without loss, up to a megabyte."""
    return content[: 2**20].decode("utf-8", "backslashreplace")
