"""Experiments in the ranker: a request's customers are split by arm, and each arm asks its predictor once."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from offers.decisions.pseudonym import Pseudonyms
from offers.errors import ServiceError
from offers.experiments.experiment import OUTSIDE, Experiment
from serving.process.telemetry import ARM_AWAY, ARM_ROWS, SHADOW_ROWS
from serving.ranker.decision_log import Membership
from serving.ranker.part import Part
from serving.ranker.predictor_client import PredictorAway
from serving.ranker.question import Question

if TYPE_CHECKING:
    from serving.ranker.ranker import Ranker


class Arms:
    """The arms of the experiments in force, beside what serves.

    Customers of an arm whose predictor is away are answered by what serves; they stay members of their arm, so that the
    experiment compares what was meant for whom.

    Parameters
    ----------
    control : what serves
    rankers : of each arm that is not the control

    Raises
    ------
    ServiceError
        decisions are not logged, or an arm's contract takes other inputs
    """

    def __init__(
        self, control: "Ranker", experiments: Sequence[Experiment], rankers: Mapping[Membership, "Ranker"]
    ) -> None:
        if control.decision_log is None:
            raise ServiceError("an experiment needs the decision log: start the ranker with --spool")
        self._pseudonyms: Pseudonyms = control.decision_log.pseudonyms
        self._control, self._experiments, self._rankers = control, experiments, rankers
        for membership, ranker in rankers.items():
            if ranker.contract.inputs != control.contract.inputs:
                raise ServiceError(f"arm {membership.arm!r}: expected the inputs of contract {control.contract.name}")
            # Its rows are not those that the sidecar of what serves knows.
            ranker.feeds = ()
            ARM_ROWS.labels(*membership)
        self._shadows = set[asyncio.Task[None]]()

    def split(self, question: Question) -> list[tuple[Membership | None, np.ndarray]]:
        """The members of each arm, by their places in the request; None stands for those in no experiment."""
        pseudonyms = list(map(self._pseudonyms.of, question.customer_ids))
        rest = np.ones(len(pseudonyms), bool)
        groups = list[tuple[Membership | None, np.ndarray]]()
        for experiment in self._experiments:
            arm = experiment.assign(pseudonyms)
            rest &= arm == OUTSIDE
            for place in np.unique(arm[arm != OUTSIDE]):
                membership = Membership(experiment.name, experiment.arm_name(int(place)))
                groups.append((membership, np.flatnonzero(arm == place)))
        return [*groups, (None, np.flatnonzero(rest))] if rest.any() else groups

    def shadow(self, question: Question, parts: Sequence[Part]) -> None:
        """Ask the shadows about their customers, when the answer has been decided; nobody waits for them."""
        pseudonyms = list(map(self._pseudonyms.of, question.customer_ids))
        for experiment in self._experiments:
            for name, customers in experiment.shadowed(pseudonyms).items():
                if len(customers):
                    task = asyncio.create_task(self._ask(Membership(experiment.name, name), question, customers, parts))
                    self._shadows.add(task)
                    task.add_done_callback(self._shadows.discard)

    async def _ask(
        self, membership: Membership, question: Question, customers: np.ndarray, parts: Sequence[Part]
    ) -> None:
        ranker = self._rankers[membership]
        try:
            theirs = question.part(customers, ranker.policy)
            scored = await ranker.score(replace(theirs, explain=False), may_fall_back=False)
        except PredictorAway:
            SHADOW_ROWS.labels(*membership, "away").inc(len(customers))
            return
        same = await asyncio.to_thread(_agreements, scored, parts)
        SHADOW_ROWS.labels(*membership, "same").inc(same)
        SHADOW_ROWS.labels(*membership, "other").inc(len(customers) - same)

    async def score(self, question: Question, groups: Sequence[tuple[Membership | None, np.ndarray]]) -> list[Part]:
        """Score each arm's customers by its own policy and predictor; raises what the control's `score` does."""
        return await asyncio.gather(*(self._score(question, *group) for group in groups))

    async def _score(self, question: Question, membership: Membership | None, customers: np.ndarray) -> Part:
        ranker = self._rankers.get(membership) if membership else None
        if membership:
            ARM_ROWS.labels(*membership).inc(len(customers))
        if membership and ranker:
            try:
                theirs = question.part(customers, ranker.policy)
                return await ranker.score(theirs, membership, customers, may_fall_back=False)
            except PredictorAway:
                ARM_AWAY.labels(*membership).inc(len(customers))
        theirs = question.part(customers, self._control.policy)
        return await self._control.score(theirs, membership, customers)


def _agreements(shadow: Part, parts: Sequence[Part]) -> int:
    """Customers to whom a shadow would have made the offer that they got."""
    answers = {key: offer for part in parts for key, offer in _firsts(part)}
    return sum(answers[key] == offer for key, offer in _firsts(shadow))


def _firsts(part: Part) -> list[tuple[str, str | None]]:
    """Each customer's decision, and the offer in first place."""
    firsts = [ranking.ranked[0].offer.id if ranking.ranked else None for ranking in part.rankings()]
    return list(zip(part.question.decision_ids, firsts, strict=True))
