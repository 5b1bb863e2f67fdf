"""The ranker: customers and their context to ranked offers with reasons, by a catalogue and the predictor."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

from offers import catalogue as catalogues
from offers import contract as contracts
from offers.contract import Contract
from offers.errors import OffersError, RequestError, ServiceError
from offers.policy import Policy
from offers.ranking import RankedOffer, Ranking, Reason, WithheldOffer
from offers.requests import MAX_ROWS
from serving import server
from serving.protocol import InferRequest, Model, PredictorConfig
from serving.question import Question, QuestionSchema
from serving.scoring import PredictorAway, PredictorClient, Scores
from serving.telemetry import FALLBACKS, ROWS, configure_logging, log

MAX_CUSTOMERS = 1000
INLINE_CUSTOMERS = 32
"""Customers that are answered on the event loop; more go to a thread, where they hold up no health check."""

T = TypeVar("T")


@dataclass(frozen=True)
class Scored:
    """A question with its scores: None where the predictor is away, or where there was nothing to score."""

    question: Question
    scores: Scores | None
    fallback: bool


class Ranker(Model):
    """KServe's transformer: asks the predictor once per request, whatever the number of customers and offers.

    It is ready while the predictor is, and answers all the same while that is away: by the catalogue's fallback, or
    with 503.
    """

    platform = "offers_ranker"

    def __init__(
        self,
        name: str,
        policy: Policy,
        contract: Contract,
        config: PredictorConfig,
        max_customers: int = MAX_CUSTOMERS,
    ) -> None:
        super().__init__(name)
        n_rows = max_customers * len(policy.offers)
        if n_rows > MAX_ROWS:
            raise ServiceError(
                f"{max_customers} customers and {len(policy.offers)} offers make {n_rows} rows, expected at most"
                f" {MAX_ROWS}, which is what the predictor takes: lower max_customers"
            )
        self.policy = policy
        self.schema = QuestionSchema(policy, contract, max_customers)
        self.predictor = PredictorClient(config, name, contract)
        self.ready = True

    @property
    def predictor_config(self) -> PredictorConfig:
        return self.predictor.config

    @property
    def version(self) -> str:
        return f"{self.policy.catalogue.name}-{self.policy.catalogue.version}"

    async def healthy(self) -> bool:
        return self.ready and await self.predictor.ready()

    async def preprocess(
        self, payload: dict[str, Any] | InferRequest, headers: dict[str, str] | None = None
    ) -> Question:
        """Check a V1 request and join its customers with the offers that they may get."""
        if isinstance(payload, InferRequest):
            raise RequestError(f"the ranker speaks V1 alone: expected POST /v1/models/{self.name}:predict, got V2")
        instances = payload.get("instances")
        n_customers = len(instances) if isinstance(instances, list) else 0
        return await _beside(n_customers, lambda: self.schema.read(payload))

    async def predict(
        self,
        payload: Question,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> Scored:
        """Score all pairs in one call; raises `PredictorAway` where the catalogue declares no fallback."""
        if not len(payload.pairs):
            return Scored(payload, None, fallback=False)
        try:
            return Scored(payload, await self.predictor.score(payload.pairs.columns), fallback=False)
        except PredictorAway:
            if self.policy.catalogue.policy.fallback is None:
                raise
            return Scored(payload, None, fallback=True)

    async def postprocess(
        self, result: Scored, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Arbitrate, and write the answer."""
        question = result.question
        answer = await _beside(len(question), lambda: self._answer(result))
        ROWS.labels(self.name).inc(len(question))
        if result.fallback:
            FALLBACKS.labels(self.name).inc(len(question))
        fields = {"decision_ids": question.decision_ids, "pairs": len(question.pairs), "fallback": result.fallback}
        log.info("decisions", extra={"fields": fields})
        return answer

    def _answer(self, scored: Scored) -> dict[str, Any]:
        question = scored.question
        common = {"versions": self._versions(scored.scores), "fallback": scored.fallback}
        heads = zip(question.customer_ids, question.decision_ids, question.as_of, strict=True)
        return {
            "predictions": [
                {"customer_id": customer_id, "decision_id": decision_id, "as_of": as_of}
                | common
                | {"offers": list(map(_ranked, ranking.ranked)), "withheld": list(map(_withheld, ranking.withheld))}
                for (customer_id, decision_id, as_of), ranking in zip(heads, self._rankings(scored), strict=True)
            ]
        }

    def _rankings(self, scored: Scored) -> list[Ranking]:
        question = scored.question
        if scored.fallback:
            return self.policy.by_value(question.pairs, question.k)
        propensity = scored.scores.propensity if scored.scores else np.empty(0)
        return self.policy.arbitrate(question.pairs, propensity, question.k, question.decision_ids)

    def _versions(self, scores: Scores | None) -> dict[str, str | None]:
        catalogue = self.policy.catalogue
        return {
            "model": scores.version if scores else None,
            "policy": catalogue.policy.version,
            "catalogue": self.version,
        }


async def _beside(n_customers: int, work: Callable[[], T]) -> T:
    return work() if n_customers <= INLINE_CUSTOMERS else await asyncio.to_thread(work)


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
        "reasons": list(map(_told, entry.reasons)),
    }


@cache
def _told(reason: Reason) -> dict[str, Any]:
    return reason._asdict()


def main() -> None:
    """Serve a catalogue; a mistake in what was given is one sentence on standard error and exit code 2."""
    parser = argparse.ArgumentParser("python -m serving.ranker", description=__doc__)
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument("--bundle", default="", help="directory of the predictor's bundle, for its contract")
    origin.add_argument("--contract", default="", help="name of a shipped contract, or a YAML file")
    parser.add_argument(
        "--catalogue", default="", help="name of a shipped catalogue, or a file; by default the contract's"
    )
    parser.add_argument("--name", default="offers", help="name of both models in addresses")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--http_port", type=int, default=8080, help="0 for a free one")
    parser.add_argument("--grpc_port", type=int, default=8082, help="0 for a free one")
    parser.add_argument("--predictor_host", default="127.0.0.1:8081", help="host and port of the predictor's gRPC")
    parser.add_argument("--predictor_timeout", type=float, default=1.0, help="seconds for a call and its retry")
    parser.add_argument("--max_customers", type=int, default=MAX_CUSTOMERS, help="the most customers of one request")
    given = parser.parse_args()
    configure_logging()
    try:
        contract = contracts.load(f"{given.bundle}/contract.yaml" if given.bundle else given.contract)
        policy = Policy(catalogues.load(given.catalogue or contract.name, contract), contract)
        config = PredictorConfig(given.predictor_host, "grpc-v2", False, given.predictor_timeout, 1)
        ranker = Ranker(given.name, policy, contract, config, given.max_customers)
        server.run([ranker], server.Address(given.host, given.http_port, given.grpc_port))
    except OffersError as error:
        print(f"ranker: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
