"""The ranker: customers and their context to ranked offers with reasons, by a catalogue and the predictor."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import orjson

from offers.contract.contract import Contract
from offers.decisions.answer import addressed
from offers.errors import ServiceError
from offers.policy.arbitration import Policy
from offers.policy.selection import Selection
from serving.process.logs import log
from serving.process.telemetry import FALLBACKS, ROWS
from serving.protocol.kserve import InferRequest, InferResponse, Model, PredictorConfig
from serving.protocol.payload import Payload, answered, claimed_rows, flag, tensors, wanted_output
from serving.protocol.rows import MAX_ROWS
from serving.ranker import exposure
from serving.ranker.arms import Arms
from serving.ranker.breaker import Breaker
from serving.ranker.decision_log import DecisionLog, Membership
from serving.ranker.explaining import check_pairs, explained
from serving.ranker.feed import Feed, ScoredRows
from serving.ranker.outcomes import PATH, OutcomesTaker
from serving.ranker.part import Part
from serving.ranker.predictor_client import PredictorAway, PredictorClient
from serving.ranker.question import EXPLAIN, Question, QuestionSchema

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
    """A question and its parts, one for each arm among its customers."""

    asked: Asked
    parts: Sequence[Part]


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
    arms : of experiments, None where there is none
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
        self.arms: Arms | None = None
        self.degraded, self._answered = "", False
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
        """Score all pairs in one call of each arm; raises `PredictorAway` where the catalogue declares no fallback."""
        question, arms = payload.question, self.arms
        if arms is None:
            return Scored(payload, [await self.score(question)])
        groups = await _beside(len(question), lambda: arms.split(question))
        return Scored(payload, await arms.score(question, groups))

    async def score(
        self,
        question: Question,
        membership: Membership | None = None,
        customers: np.ndarray | None = None,
        may_fall_back: bool = True,
    ) -> Part:
        """Score a question in one call; raises `PredictorAway` where there is no fallback, or it is not to be used."""
        scores, fallback, customers_logged = None, False, None

        async def log_customers() -> None:
            nonlocal customers_logged
            if decision_log := self.decision_log:
                customers_logged = await _beside(len(question), lambda: decision_log.customers(question))

        if len(question.pairs):
            try:
                self.breaker.check()
                scores = await self.predictor.score(question.pairs.columns, log_customers)
            except PredictorAway as away:
                self.breaker.failed(away)
                if not (self.has_fallback and may_fall_back):
                    raise
                fallback = True
        part = Part(
            self.policy,
            question,
            scores,
            fallback,
            self.feeds,
            self.selection,
            membership,
            customers,
            logged=customers_logged,
        )
        return await explained(part, self.predictor, self.contract) if question.explain else part

    async def postprocess(
        self, result: Scored, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Arbitrate, write the answer, and tell the feeds."""
        question = result.asked.question
        answer, deliveries = await _beside(len(question), lambda: self._decide(result))
        if self.decision_log:
            await self.decision_log.durable()
        ROWS.labels(self.name).inc(len(question))
        by_value = sum(len(part.question) for part in result.parts if part.fallback)
        FALLBACKS.labels(self.name).inc(by_value)
        for feed, rows in deliveries:
            feed.offer(rows)
        if self.arms:
            self.arms.shadow(question, result.parts)
        n_pairs = sum(len(part.question.pairs) for part in result.parts)
        fields = {"decision_ids": question.decision_ids, "pairs": n_pairs, "fallback": by_value > 0}
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
            wanted_output(payload, OUTPUT)
            question = self.schema.read_tensors(tensors(payload), flag(payload, EXPLAIN))
        else:
            question = self.schema.read(payload)
        if question.explain:
            check_pairs(question.pairs.asked)
        return Asked(question, payload if isinstance(payload, InferRequest) else None)

    def _decide(self, scored: Scored) -> tuple[dict[str, Any] | InferResponse, list[tuple[Feed, ScoredRows]]]:
        question, request = scored.asked.question, scored.asked.request
        answers, deliveries = [b""] * len(question), list[tuple[Feed, ScoredRows]]()
        for part in scored.parts:
            rankings = part.rankings()
            exposure.count(part, rankings)
            theirs = part.answers(rankings)
            if self.decision_log:
                self.decision_log.write(
                    part.question, part.scores, theirs, part.policy, self.contract, part.membership, part.logged
                )
            places = range(len(theirs)) if part.customers is None else part.customers
            for row, answer in zip(places, theirs, strict=True):
                answers[row] = answer
            if (first := part.first(rankings)) is not None:
                deliveries += [(feed, first) for feed in part.feeds]
        predictions = list(map(addressed, question.customer_ids, answers))
        if request is None:
            return {"predictions": list(map(orjson.Fragment, predictions))}, deliveries
        return answered(request, self, OUTPUT, "BYTES", np.array(predictions, object)), deliveries


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
