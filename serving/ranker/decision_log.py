"""What the ranker remembers of its answers: an event in the spool before the answer leaves."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import numpy as np

from offers.contract.contract import Contract
from offers.decisions import log as events
from offers.decisions.pseudonym import Pseudonyms
from offers.decisions.spool import Spool, SpoolFull
from offers.errors import StorageError
from offers.policy.arbitration import Policy
from serving.process.logs import caller, log, request_id
from serving.process.telemetry import LOGGED, UNLOGGED
from serving.protocol.kserve import ServerNotReady
from serving.ranker.predictor_client import PairScores
from serving.ranker.question import Question

WhenFull = Literal["refuse", "unlogged"]


class Membership(NamedTuple):
    """The arm of an experiment that customers belong to, whoever answered them."""

    experiment: str
    arm: str


class LogFull(ServerNotReady):
    """The decision can't be logged, so it is not made."""

    headers = {"Retry-After": "5"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        after = self.headers["Retry-After"]
        self.error_msg = f"the decision log takes no more until its tables have caught up: try again in {after} s"


class DecisionLog:
    """Writes the decisions of each request to the spool.

    Parameters
    ----------
    spool : entered while requests are answered
    pseudonyms : of customers
    when_full : whether an answer that can't be logged is refused, with 503, or goes out and is counted

    Attributes
    ----------
    ledger_head : end of the ledger that says what serves, for the events; None without one
    """

    def __init__(self, spool: Spool, pseudonyms: Pseudonyms, when_full: WhenFull) -> None:
        self.spool, self.pseudonyms, self.when_full = spool, pseudonyms, when_full
        self.ledger_head: str | None = None
        self._kept: set[tuple[str, str]] = set()

    def write(
        self,
        question: Question,
        scores: PairScores | None,
        answers: Sequence[bytes],
        policy: Policy,
        contract: Contract,
        membership: Membership | None = None,
        customers: events.Customers | None = None,
    ) -> None:
        """Log decisions of one request, from any thread; `answers` are as `offers.decisions.log.Answer` says.

        `customers` are the question's, if they have been written already.

        Raises
        ------
        LogFull
            there is no room, and decisions are not to be made unlogged
        """
        try:
            self._keep(policy, contract)
            customers = customers or self.customers(question)
            self.spool.append(self._event(question, customers, scores, answers, policy, contract, membership))
            LOGGED.inc(len(question))
        except (SpoolFull, StorageError) as error:
            UNLOGGED.inc(len(question))
            log.error("decisions not logged", extra={"fields": {"rows": len(question), "reason": str(error)}})
            if self.when_full == "refuse":
                raise LogFull from None

    def customers(self, question: Question) -> events.Customers:
        """Write the question's customers as the log has them. This can be done before anything is scored."""
        return events.Customers.of(question.customer_ids, question.pairs.given, self.pseudonyms)

    async def durable(self) -> None:
        """Wait until what was written outlives what it is to outlive."""
        await self.spool.durable()

    def _keep(self, policy: Policy, contract: Contract) -> None:
        """Have the catalogue in the log before the first decision that names it."""
        name = (policy.catalogue.version, contract.name)
        if name not in self._kept:
            self.spool.append(events.policy(policy, contract))
            self._kept.add(name)

    def _event(
        self,
        question: Question,
        customers: events.Customers,
        scores: PairScores | None,
        answers: Sequence[bytes],
        policy: Policy,
        contract: Contract,
        membership: Membership | None,
    ) -> bytes:
        catalogue = policy.catalogue
        answer = events.Answer(
            request_id=request_id.get(),
            decided_at=datetime.now(UTC),
            customers=customers,
            asked=question.asked,
            k=question.k,
            offers=policy.offer_ids,
            propensity=_dense(question, scores),
            answers=answers,
            fallback=scores is None and len(question.pairs) > 0,
            model=scores.version if scores else None,
            policy=catalogue.policy.version,
            catalogue=f"{catalogue.name}-{catalogue.version}",
            contract=contract.name,
            experiment=membership.experiment if membership else None,
            arms=[membership.arm] * len(question) if membership else None,
            ledger_head=self.ledger_head,
            caller=caller.get() or None,
            latency_ms=scores.milliseconds if scores else None,
        )
        return events.decided(answer)


def _dense(question: Question, scores: PairScores | None) -> np.ndarray:
    pairs = question.pairs
    if scores is None:
        return np.full(pairs.eligible.shape, np.nan)
    return np.where(pairs.eligible, scores.propensity[pairs.row], np.nan)
