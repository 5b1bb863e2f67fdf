"""Recommendations for a user: the row, the ranking or what stands in for it, the decision's event, the answer."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from offers.data.online_reading import OnlineRows
from offers.errors import RequestError
from offers.retrieval.answer import written
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.popularity import segment_values
from serving.ranker.decision_log import DecisionLog
from serving.recommender.arms import Arms, first_of
from serving.recommender.decisions import Decision, Unavailable
from serving.recommender.metrics import ANSWERS, FOREIGN, REFUSED, STALE
from serving.recommender.served import Served
from serving.recommender.users import Overloaded, StoreAway, Users

MOST_K, ID_LENGTH = 100, 128

MOST_WAITING = 16
"""Requests that wait for their user and their scores; for the last of them that is a matter of some 30 ms."""

_FALLBACKS = {
    "store_away": "the online store does not answer, and nothing may stand in for it",
    "overloaded": "more is asked than can be answered in time: try again in 1 s",
}


@dataclass(frozen=True)
class Question:
    """A request, checked. `segment` has values for some of the contract's segments, or is None.

    Without `k` the rules of what answers say how many places there are.
    """

    user_id: str
    k: int | None
    explain: bool
    withheld: bool
    segment: Mapping[str, str] | None


class Recommendations:
    """Answers for the users of a market.

    Parameters
    ----------
    served : what answers
    users : rows by id
    decision_log : keeps each decision before its answer leaves
    may_fall_back : whether popularity stands in while the store is away, or more is asked than can be answered in time
    """

    def __init__(
        self, served: Served, users: Users, decision_log: DecisionLog | None = None, may_fall_back: bool = True
    ) -> None:
        self.users = users
        self.decision_log, self.may_fall_back = decision_log, may_fall_back
        self._waiting = 0
        self.serve(served, None)

    def serve(self, served: Served, arms: Arms | None) -> None:
        """Answer by another bundle from now on, and some users by the arms of experiments."""
        self.served, self._arms = served, arms
        self.segments = segment_values(served.bundle.market)

    @property
    def bundle(self) -> MarketBundle:
        """What serves, with the products of now."""
        return self.served.bundle

    def has(self, product: str) -> bool:
        """Whether there is such a product."""
        return self.served.products.has(product)

    def question(self, user_id: str, query: Mapping[str, str]) -> Question:
        """Check a request.

        Raises
        ------
        RequestError
            names what is wrong
        """
        if not 1 <= len(user_id) <= ID_LENGTH or not user_id.isprintable():
            raise RequestError(f"the user's id: expected 1 to {ID_LENGTH} printable characters, got {len(user_id)}")
        names = ("k", "explain", "withheld", *self.segments)
        if strange := [name for name in query if name not in names]:
            raise RequestError(f"parameter {strange[0]!r:.80}: expected {', '.join(names)}")
        k = query.get("k")
        if k is not None and not (k.isascii() and k.isdigit() and len(k) <= 3 and 1 <= int(k) <= MOST_K):
            raise RequestError(f"parameter 'k': expected a whole number from 1 to {MOST_K}, got {k!r:.40}")
        for name, words in self.segments.items():
            if name in query and query[name] not in words:
                raise RequestError(f"parameter {name!r}: expected one of {', '.join(words)}, got {query[name]!r:.40}")
        own = {name: query[name] for name in self.segments if name in query}
        places = None if k is None else int(k)
        return Question(user_id, places, _truth(query, "explain"), _truth(query, "withheld"), own or None)

    async def answer(self, question: Question) -> bytes:
        """Answer a question as JSON.

        Raises
        ------
        Unavailable
            the store is away or too much is asked, and nothing may stand in, or the decision can't be logged
        """
        rows, ground = await self._row(question.user_id)
        if ground in _FALLBACKS and not self.may_fall_back:
            REFUSED.labels(ground).inc()
            raise Unavailable(_FALLBACKS[ground])
        membership, arm = self._arms.of(question.user_id) if self._arms else (None, None)
        served = arm or self.served
        available, k = served.available(), question.k or served.bundle.market.recommendation.k
        decision_id, user, sentences = uuid.uuid4().hex, None, list[tuple[str, ...]]()
        milliseconds = None
        if rows is not None and ground == "ranked":
            begun, user = time.perf_counter(), served.bundle.rows(rows)[0]
            recommended = served.recommender.recommend(user, k, available, decision_id)
            milliseconds = (time.perf_counter() - begun) * 1e3
            sentences = served.recommender.sentences(user, recommended) if question.explain else []
        else:
            recommended = served.recommender.popular(question.segment, k, available)
        facts = _facts(served, decision_id, ground, rows)
        content = written(facts, served.bundle.product_ids, recommended, sentences, question.withheld)
        if self.decision_log:
            decision = Decision(
                question.user_id, k, question.segment, user, recommended, content, membership, milliseconds
            )
            served.decisions.log(decision, facts)
            await self.decision_log.durable()
        ANSWERS.labels(ground).inc()
        served.count(recommended.candidates[list(recommended.offers)])
        if self._arms and rows is not None and user is not None:
            # Nobody waits for the shadows.
            first = first_of(served, recommended)
            asyncio.get_running_loop().call_soon(self._arms.shadow, question.user_id, rows, k, decision_id, first)
        return b'{"user_id":%b,%b' % (orjson.dumps(question.user_id), content[1:])

    async def _row(self, user_id: str) -> tuple[OnlineRows | None, str]:
        """Read a user's row; returns it with the ground on which the answer will stand."""
        if self._waiting >= MOST_WAITING:
            return None, "overloaded"
        self._waiting += 1
        try:
            rows = await self.users.read(user_id)
        except StoreAway:
            return None, "store_away"
        except Overloaded:
            return None, "overloaded"
        finally:
            self._waiting -= 1
        _count(rows)
        return rows, "unknown_user" if np.isnat(rows.moments[0]) else "ranked"


def _facts(served: Served, decision_id: str, ground: str, rows: OnlineRows | None) -> dict[str, Any]:
    """List what stands before the offers in an answer."""
    moment = rows.moments[0] if rows else np.datetime64("NaT")
    return {
        "decision_id": decision_id,
        "as_of": datetime.now(UTC).isoformat(),
        "versions": served.decisions.versions(served.bundle.name if ground == "ranked" else None),
        "fallback": ground in _FALLBACKS,
        "ground": ground,
        "loaded_at": None if np.isnat(moment) else f"{moment}Z",
        "stale": [name for name, count in rows.stale.items() if count] if rows else [],
    }


def _truth(query: Mapping[str, str], name: str) -> bool:
    word = query.get(name, "") or "false"
    if word.lower() not in ("true", "1", "false", "0"):
        raise RequestError(f"parameter {name!r}: expected true or false, got {word!r:.40}")
    return word.lower() in ("true", "1")


def _count(rows: OnlineRows) -> None:
    if rows.foreign:
        FOREIGN.inc(rows.foreign)
    for source, count in rows.stale.items():
        if count:
            STALE.labels(source).inc(count)
