"""The decisions of the recommender as events of the decision log, with the policy by which they can be made again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.data.online import OnlineUsers
from offers.decisions import log as events
from offers.decisions.spool import SpoolFull
from offers.errors import StorageError
from offers.retrieval.arbitration import MarketPolicy, Recommended
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.reproduction import VIEWED, catalogue_of
from serving.process.logs import caller, log_event, request_id
from serving.process.telemetry import LOGGED, UNLOGGED
from serving.ranker.decision_log import DecisionLog, Membership


class Unavailable(Exception):  # noqa: N818
    """The service can't answer now."""

    headers = {"Retry-After": "1"}  # noqa: RUF012


@dataclass(frozen=True, eq=False)
class Decision:
    """A decision about a user, and its answer without the user's id.

    `user` is the row, None where nothing is known, `membership` the user's arm of an experiment, and `milliseconds` how
    long candidates, scores and their order took, None where nothing was scored.
    """

    user_id: str
    k: int
    segment: Mapping[str, str] | None
    user: NDArray[np.float32] | None
    recommended: Recommended
    answer: bytes
    membership: Membership | None = None
    milliseconds: float | None = None


class Decisions:
    """Logs decisions.

    Parameters
    ----------
    log : None where nobody keeps them
    """

    def __init__(self, bundle: MarketBundle, policy: MarketPolicy, log: DecisionLog | None) -> None:
        self._bundle, self._policy, self._log = bundle, policy, log
        self._catalogue, self._text = catalogue_of(policy)
        self._kept = False
        self._features = OnlineUsers(bundle.market).encoder.features

    def versions(self, model: str | None) -> dict[str, str | None]:
        """Name what a decision is made by."""
        return {"model": model, "policy": self._policy.market.digest[:12], "catalogue": self._catalogue}

    def log(self, decision: Decision, facts: Mapping[str, Any]) -> None:
        """Log a decision before its answer leaves.

        Raises
        ------
        Unavailable
            there is no room, and decisions are not to be made unlogged
        """
        if self._log is None:
            return
        try:
            if not self._kept:
                self._log.spool.append(events.market_policy(self._catalogue, self._text, self._policy.market))
                self._kept = True
            self._log.spool.append(events.decided(self._event(decision, facts, self._log)))
            LOGGED.inc()
        except (SpoolFull, StorageError) as error:
            UNLOGGED.inc()
            log_event("decision not logged", reason=str(error))
            if self._log.when_full == "refuse":
                raise Unavailable("the decision log takes no more until its tables have caught up") from None

    def _event(self, decision: Decision, facts: Mapping[str, Any], log: DecisionLog) -> events.Answer:
        recommended, versions = decision.recommended, facts["versions"]
        return events.Answer(
            request_id=request_id.get(),
            decided_at=datetime.now(UTC),
            customers=events.Customers.of([decision.user_id], self._columns(decision), log.pseudonyms),
            asked=[None],
            k=[decision.k],
            offers=[self._bundle.product_ids[one] for one in recommended.candidates.tolist()],
            propensity=recommended.propensity[None],
            score=recommended.score[None],
            action_probability=recommended.first[None],
            answers=[decision.answer],
            fallback=versions["model"] is None,
            model=versions["model"],
            contract=self._bundle.market.name,
            experiment=decision.membership.experiment if decision.membership else None,
            arms=[decision.membership.arm] if decision.membership else None,
            ledger_head=log.ledger_head,
            caller=caller.get() or None,
            latency_ms=decision.milliseconds,
            policy=versions["policy"],
            catalogue=versions["catalogue"],
        )

    def _columns(self, decision: Decision) -> dict[str, NDArray[Any]]:
        """Decode a user's row: words with None, numbers with NaN where missing; else the segment that was asked for."""
        if decision.user is None:
            return {name: np.array([word], object) for name, word in (decision.segment or {}).items()}
        columns = dict[str, NDArray[Any]]()
        for name, words, value in zip(*self._names_and_words, decision.user.tolist(), strict=False):
            if words:
                columns[name] = np.array([None if isnan(value) else words[int(value)]], object)
            else:
                columns[name] = np.array([value])
        viewed = decision.user[len(columns) :]
        columns[VIEWED] = np.empty(1, object)
        columns[VIEWED][0] = [self._bundle.product_ids[int(one)] for one in viewed[~np.isnan(viewed)].tolist()]
        return columns

    @cached_property
    def _names_and_words(self) -> tuple[list[str], list[tuple[str, ...]]]:
        return [feature.name for feature in self._features], [feature.values for feature in self._features]
