"""Recommendations for a user: the row, the ranking or what stands in for it, the decision's event, the answer."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from offers.data.online import OnlineRows, OnlineUsers
from offers.decisions import log as events
from offers.decisions.spool import SpoolFull
from offers.errors import RequestError, StorageError
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.popularity import segment_values
from offers.retrieval.recommendation import Place, Recommended, Recommender
from serving.process.logs import caller, log_event, request_id
from serving.process.telemetry import LOGGED, UNLOGGED
from serving.ranker.decision_log import DecisionLog
from serving.recommender.metrics import ANSWERS, FOREIGN, PLACE_SHOWN, SHOWN, STALE
from serving.recommender.products import ProductList
from serving.recommender.users import StoreAway, Users

MOST_K, ID_LENGTH = 100, 128


class Unavailable(Exception):  # noqa: N818
    """The service can't answer now."""

    headers = {"Retry-After": "1"}  # noqa: RUF012


@dataclass(frozen=True)
class Question:
    """A request, checked. `segment` has a value for each of the contract's segments, or is None."""

    user_id: str
    k: int
    explain: bool
    segment: Mapping[str, str] | None


class Recommendations:
    """Answers for the users of a market.

    Parameters
    ----------
    bundle : of the market
    users : rows by id
    products : which may be recommended
    decision_log : keeps each decision before its answer leaves
    may_fall_back : whether popularity stands in while the store is away
    seed : of exploration; None for the system's chance
    """

    def __init__(
        self,
        bundle: MarketBundle,
        users: Users,
        products: ProductList,
        decision_log: DecisionLog | None = None,
        may_fall_back: bool = True,
        seed: int | None = None,
    ) -> None:
        self.bundle, self.users, self.products = bundle, users, products
        self.decision_log, self.may_fall_back = decision_log, may_fall_back
        self.segments = segment_values(bundle.market)
        self._recommender = Recommender(bundle)
        self._chance = np.random.default_rng(seed)
        self._features = OnlineUsers(bundle.market).encoder.features

    def question(self, user_id: str, query: Mapping[str, str]) -> Question:
        """Check a request.

        Raises
        ------
        RequestError
            names what is wrong
        """
        if not 1 <= len(user_id) <= ID_LENGTH or not user_id.isprintable():
            raise RequestError(f"the user's id: expected 1 to {ID_LENGTH} printable characters, got {len(user_id)}")
        names = ("k", "explain", *self.segments)
        if strange := [name for name in query if name not in names]:
            raise RequestError(f"parameter {strange[0]!r:.80}: expected {', '.join(names)}")
        k, explain = query.get("k", str(self.bundle.market.recommendation.k)), query.get("explain", "") or "false"
        if not (k.isascii() and k.isdigit() and len(k) <= 3 and 1 <= int(k) <= MOST_K):
            raise RequestError(f"parameter 'k': expected a whole number from 1 to {MOST_K}, got {k!r:.40}")
        if explain.lower() not in ("true", "1", "false", "0"):
            raise RequestError(f"parameter 'explain': expected true or false, got {explain!r:.40}")
        for name, words in self.segments.items():
            if name in query and query[name] not in words:
                raise RequestError(f"parameter {name!r}: expected one of {', '.join(words)}, got {query[name]!r:.40}")
        own = {name: query[name] for name in self.segments if name in query}
        return Question(user_id, int(k), explain.lower() in ("true", "1"), own or None)

    async def answer(self, question: Question) -> bytes:
        """Answer a question as JSON.

        Raises
        ------
        Unavailable
            the store is away and nothing may stand in, or the decision can't be logged
        """
        available = self.products.available()
        rows: OnlineRows | None = None
        try:
            rows = await self.users.read(question.user_id)
        except StoreAway:
            ground = "store_away"
            if not self.may_fall_back:
                raise Unavailable("the online store does not answer, and nothing may stand in for it") from None
        else:
            ground = "unknown_user" if np.isnat(rows.moments[0]) else "ranked"
            _count(rows)
        if ground == "ranked" and rows is not None:
            recommended = self._recommender.recommend(
                rows.matrix[0], question.k, available, self._chance, question.explain
            )
        else:
            recommended = self._recommender.popular(question.segment, question.k, available)
        content = self._content(question, ground, rows, recommended)
        if self.decision_log:
            self._log(self.decision_log, question, ground, rows, recommended, content)
            await self.decision_log.durable()
        ANSWERS.labels(ground).inc()
        for place, offer in enumerate(recommended.offers, 1):
            SHOWN.labels(offer.product).inc()
            PLACE_SHOWN.labels(str(place) if place <= 20 else "beyond").inc()
        return b'{"user_id":%b,%b' % (orjson.dumps(question.user_id), content[1:])

    def _content(self, question: Question, ground: str, rows: OnlineRows | None, recommended: Recommended) -> bytes:
        """Write an answer without the user's id, as it is logged."""
        stale = [name for name, count in rows.stale.items() if count] if rows else []
        moment = rows.moments[0] if rows else np.datetime64("NaT")
        return orjson.dumps(
            {
                "decision_id": uuid.uuid4().hex,
                "as_of": datetime.now(UTC).isoformat(),
                "versions": {"model": self.bundle.name if ground == "ranked" else None, **self._versions},
                "fallback": ground == "store_away",
                "ground": ground,
                "loaded_at": None if np.isnat(moment) else f"{moment}Z",
                "stale": stale,
                "offers": [
                    {"offer_id": one.product, "rank": rank, "propensity": one.propensity, "value": one.value}
                    | {"score": one.score, "action_probability": one.first, "reasons": one.reasons}
                    for rank, one in enumerate(recommended.offers, 1)
                ],
                "withheld": [_withheld(one) for one in recommended.withheld],
            }
        )

    @property
    def _versions(self) -> dict[str, str]:
        market = self.bundle.market
        return {"policy": market.digest[:12], "catalogue": f"{market.name}-{market.digest[:12]}"}

    def _log(
        self,
        log: DecisionLog,
        question: Question,
        ground: str,
        rows: OnlineRows | None,
        recommended: Recommended,
        content: bytes,
    ) -> None:
        answer = events.Answer(
            request_id=request_id.get(),
            decided_at=datetime.now(UTC),
            customer_ids=[question.user_id],
            columns=self._columns(rows.matrix[0]) if ground == "ranked" and rows else {},
            asked=[None],
            k=[question.k],
            offers=recommended.candidates,
            propensity=np.array([recommended.propensity], np.float64),
            answers=[content],
            fallback=ground != "ranked",
            model=self.bundle.name if ground == "ranked" else None,
            contract=self.bundle.market.name,
            ledger_head=log.ledger_head,
            caller=caller.get() or None,
            policy=self._versions["policy"],
            catalogue=self._versions["catalogue"],
        )
        try:
            log.spool.append(events.decided(answer, log.pseudonyms))
            LOGGED.inc()
        except (SpoolFull, StorageError) as error:
            UNLOGGED.inc()
            log_event("decision not logged", reason=str(error))
            if log.when_full == "refuse":
                raise Unavailable("the decision log takes no more until its tables have caught up") from None

    def _columns(self, row: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Decode a user's row for the log: words with None, numbers with NaN where missing."""
        columns = dict[str, NDArray[Any]]()
        for feature, value in zip(self._features, row, strict=True):
            if feature.values:
                columns[feature.name] = np.array([None if np.isnan(value) else feature.values[int(value)]], object)
            else:
                columns[feature.name] = np.array([value], np.float64)
        return columns


def _withheld(place: Place) -> dict[str, Any]:
    reasons = [_reason(code) for code in place.reasons]
    return {"offer_id": place.product, "score": place.score, "action_probability": place.first, "reasons": reasons}


def _reason(code: str) -> dict[str, Any]:
    kind = "eligibility" if code.startswith("REQUIRED") else "arbitration"
    return {"code": code, "kind": kind, "evaluated": True, "text": _TEXTS.get(code.partition(":")[0], code)}


_TEXTS = {
    "REQUIRED": "A pair that the contract requires does not hold.",
    "MOST_PER_FAMILY": "The answer has as many of this family as may be.",
    "BEYOND_K": "Others have taken the places.",
}


def _count(rows: OnlineRows) -> None:
    if rows.foreign:
        FOREIGN.inc(rows.foreign)
    for source, count in rows.stale.items():
        if count:
            STALE.labels(source).inc(count)
