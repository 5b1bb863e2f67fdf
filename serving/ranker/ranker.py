"""The ranker: customers and their context to ranked offers with reasons, by a catalogue and the predictor."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import orjson

from offers.contract.contract import Contract
from offers.decisions.answer import addressed, written
from offers.errors import ServiceError
from offers.policy.arbitration import Policy
from offers.policy.ranking import Ranking
from offers.policy.selection import Selection
from serving.process.logs import log
from serving.process.telemetry import FALLBACKS, ROWS
from serving.protocol.kserve import InferRequest, InferResponse, Model, PredictorConfig
from serving.protocol.payload import Payload, answered, check_outputs, claimed_rows, tensors
from serving.protocol.rows import MAX_ROWS
from serving.ranker.breaker import Breaker
from serving.ranker.decision_log import DecisionLog
from serving.ranker.feed import Feed, ScoredRows
from serving.ranker.outcomes import PATH, OutcomesTaker
from serving.ranker.predictor_client import PairScores, PredictorAway, PredictorClient
from serving.ranker.question import Question, QuestionSchema

OUTPUT = "decision"
MAX_CUSTOMERS = 1000
INLINE_CUSTOMERS = 32
"""Customers that are answered on the event loop; more go to a thread, where they hold up no health check."""

T = TypeVar("T")
Taker = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Answers a POST of a JSON object that is no question to the model."""


@dataclass(frozen=True)
class Asked:
    """A question, and the V2 request that it came in, None for V1: the answer takes the same form."""

    question: Question
    request: InferRequest | None


@dataclass(frozen=True)
class Scored:
    """A question with its scores: None where the predictor is away, or where there was nothing to score."""

    asked: Asked
    scores: PairScores | None
    fallback: bool

    @property
    def question(self) -> Question:
        return self.asked.question


class Ranker(Model):
    """KServe's transformer: asks the predictor once per request, whatever the number of customers and offers.

    It is ready while the predictor is and takes the contract's inputs. While that is away it answers by the catalogue's
    fallback, and stays ready; or with 503, where the catalogue declares none.

    V1 answers with a prediction per customer. V2 asks by tensors (see `serving.ranker.question`) and answers with one,
    `decision`, BYTES of shape [n]: for each customer the JSON object that would be the prediction in V1. A ranking
    has lists of offers in it, each with its reasons, which no tensor holds.

    Parameters
    ----------
    name : of the model, and of the predictor's
    config : where the predictor is, and how long to wait for it
    max_customers : the most customers of one request; by default as many as the predictor takes with all their offers,
        and 1 000 at most
    feeds : told of the first-ranked pair of each customer; nothing of a fallback
    decision_log : keeps every decision before its answer leaves
    selection : rows of the bundle's reference that the catalogue's rules let pass, for the feeds

    Attributes
    ----------
    degraded : why it ranked by its fallback when it was last asked for its health; empty where it did not
    """

    platform = "offers_ranker"

    def __init__(
        self,
        name: str,
        policy: Policy,
        contract: Contract,
        config: PredictorConfig,
        max_customers: int | None = None,
        feeds: Sequence[Feed] = (),
        decision_log: DecisionLog | None = None,
        selection: Selection | None = None,
    ) -> None:
        super().__init__(name)
        self.policy = policy
        self.contract = contract
        self.schema = QuestionSchema(policy, contract, _most_customers(max_customers, len(policy.offers)))
        self.predictor = PredictorClient(config, name, contract)
        self.breaker = Breaker(self.predictor.check)
        self.feeds = feeds
        self.decision_log = decision_log
        self.selection = selection
        self.takes: dict[str, Taker] = {PATH: OutcomesTaker(decision_log).take} if decision_log else {}
        self.degraded, self._answered = "", False
        self._places = {offer.id: place for place, offer in enumerate(policy.offers)}
        # Their series are there from the start, and not from the first row on.
        ROWS.labels(name), FALLBACKS.labels(name)
        self.ready = True

    @property
    def predictor_config(self) -> PredictorConfig:
        return self.predictor.config

    @property
    def version(self) -> str:
        return f"{self.policy.catalogue.name}-{self.policy.catalogue.version}"

    async def healthy(self) -> bool:
        """Whether it can rank; raises `PredictorAway` or `ForeignPredictor` with the reason where it can't.

        With a fallback it goes on without the predictor, once that has answered: else a roll-out would put rankers in
        service that never had one.
        """
        try:
            await self._check()
            self.degraded = ""
        except PredictorAway as away:
            if not self.has_fallback or not self._answered:
                raise
            self.degraded = str(away)
        return bool(self.ready)

    @property
    def has_fallback(self) -> bool:
        return self.policy.catalogue.policy.fallback is not None

    def get_input_types(self) -> list[dict[str, Any]]:
        return self.schema.tensors()

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": OUTPUT, "datatype": "BYTES", "shape": [-1]}]

    async def preprocess(self, payload: Payload, headers: dict[str, str] | None = None) -> Asked:
        """Check a V1 or V2 request, and join its customers with the offers that they may get."""
        return await _beside(claimed_rows(payload), lambda: self._asked(payload))

    async def predict(
        self, payload: Asked, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> Scored:
        """Score all pairs in one call; raises `PredictorAway` where the catalogue declares no fallback."""
        pairs = payload.question.pairs
        if not len(pairs):
            return Scored(payload, None, fallback=False)
        try:
            self.breaker.check()
            return Scored(payload, await self.predictor.score(pairs.columns), fallback=False)
        except PredictorAway as away:
            self.breaker.failed(away)
            if not self.has_fallback:
                raise
            return Scored(payload, None, fallback=True)

    async def postprocess(
        self, result: Scored, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Arbitrate, write the answer, and tell the feeds."""
        question = result.question
        answer, first = await _beside(len(question), lambda: self._decide(result))
        if self.decision_log:
            await self.decision_log.durable()
        ROWS.labels(self.name).inc(len(question))
        if result.fallback:
            FALLBACKS.labels(self.name).inc(len(question))
        if first is not None:
            for feed in self.feeds:
                feed.offer(first)
        fields = {"decision_ids": question.decision_ids, "pairs": len(question.pairs), "fallback": result.fallback}
        log.info("decisions", extra={"fields": fields})
        return answer

    async def _check(self) -> None:
        self.breaker.check()
        try:
            await self.predictor.check()
        except PredictorAway as away:
            self.breaker.failed(away)
            raise
        self._answered = True

    def _asked(self, payload: Payload) -> Asked:
        if isinstance(payload, InferRequest):
            check_outputs(payload, OUTPUT)
            return Asked(self.schema.read_tensors(tensors(payload)), payload)
        return Asked(self.schema.read(payload), None)

    def _decide(self, scored: Scored) -> tuple[dict[str, Any] | InferResponse, ScoredRows | None]:
        rankings = self._rankings(scored)
        answers, question, request = self._answers(scored, rankings), scored.question, scored.asked.request
        if self.decision_log:
            self.decision_log.write(question, scored.scores, answers, self.policy, self.contract)
        first = self._first(question, scored.scores, rankings) if self.feeds and scored.scores else None
        predictions = list(map(addressed, question.customer_ids, answers))
        if request is None:
            return {"predictions": list(map(orjson.Fragment, predictions))}, first
        return answered(request, self, OUTPUT, "BYTES", np.array(predictions, object)), first

    def _answers(self, scored: Scored, rankings: Sequence[Ranking]) -> list[bytes]:
        """The prediction for each customer, as JSON but for the customer's id."""
        question = scored.question
        versions, fallback = self._versions(scored.scores), scored.fallback
        heads = zip(question.decision_ids, question.as_of, rankings, strict=True)
        return [written(decision_id, as_of, versions, fallback, ranking) for decision_id, as_of, ranking in heads]

    def _first(self, question: Question, scores: PairScores, rankings: Sequence[Ranking]) -> ScoredRows:
        """One pair for each customer who was scored: the first in rank, or any where all offers were withheld.

        Leaving those out would look like drift: they are not like the others.
        """
        eligible = question.pairs.eligible
        customers = np.flatnonzero(eligible.any(axis=1))
        places = eligible.argmax(axis=1)
        for row, ranking in enumerate(rankings):
            if ranking.ranked:
                places[row] = self._places[ranking.ranked[0].offer.id]
        pair = question.pairs.row[customers, places[customers]]
        return ScoredRows(
            scores.version,
            [datetime.now(UTC)] * len(customers),
            [question.decision_ids[row] for row in customers],
            [question.customer_ids[row] for row in customers],
            {name: values[pair] for name, values in question.pairs.columns.items()},
            scores.propensity[pair],
            self.selection.word if self.selection and self.selection.bundle == scores.version else "",
        )

    def _rankings(self, scored: Scored) -> list[Ranking]:
        question = scored.question
        if scored.fallback:
            return self.policy.by_value(question.pairs, question.k)
        propensity = scored.scores.propensity if scored.scores else np.empty(0)
        return self.policy.arbitrate(question.pairs, propensity, question.k, question.decision_ids)

    def _versions(self, scores: PairScores | None) -> dict[str, str | None]:
        catalogue = self.policy.catalogue
        return {
            "model": scores.version if scores else None,
            "policy": catalogue.policy.version,
            "catalogue": self.version,
        }


def _most_customers(customers: int | None, offers: int) -> int:
    """The most customers of one request; refuses a number that makes more rows than the predictor takes."""
    if customers is None:
        customers = max(1, min(MAX_CUSTOMERS, MAX_ROWS // offers))
    if customers * offers > MAX_ROWS:
        raise ServiceError(
            f"{customers} customers and {offers} offers make {customers * offers} rows, expected at most"
            f" {MAX_ROWS}, which is what the predictor takes: ask for fewer customers at once, or leave offers out"
        )
    return customers


async def _beside(n_customers: int, work: Callable[[], T]) -> T:
    return work() if n_customers <= INLINE_CUSTOMERS else await asyncio.to_thread(work)
