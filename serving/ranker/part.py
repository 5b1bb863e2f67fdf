"""A part of a request: customers whom one policy and one predictor answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offers.decisions.answer import written
from offers.decisions.log import Customers
from offers.policy.arbitration import Policy
from offers.policy.explanation import Explanation
from offers.policy.ranking import Ranking
from offers.policy.selection import Selection
from serving.ranker.decision_log import Membership
from serving.ranker.feed import Feed, ScoredRows
from serving.ranker.predictor_client import PairScores
from serving.ranker.question import Question


@dataclass(frozen=True)
class Part:
    """A question with its scores.

    Attributes
    ----------
    scores : None where the predictor is away, or where there was nothing to score
    feeds : told of its first-ranked pairs
    selection : which rows of the bundle's reference the policy lets pass, for the feeds
    membership : of its customers, where they take part in an experiment
    customers : their places in the request, None where the part is the whole
    explanations : of each answer, None where none were asked for
    logged : the question's customers as the decision log has them, None where they are still to be written
    """

    policy: Policy
    question: Question
    scores: PairScores | None
    fallback: bool
    feeds: Sequence[Feed] = ()
    selection: Selection | None = None
    membership: Membership | None = None
    customers: np.ndarray | None = None
    explanations: Sequence[Explanation] | None = None
    logged: Customers | None = None

    def rankings(self) -> list[Ranking]:
        """The answer for each customer."""
        question = self.question
        if self.fallback:
            return self.policy.by_value(question.pairs, question.k)
        propensity = self.scores.propensity if self.scores else np.empty(0)
        return self.policy.arbitrate(question.pairs, propensity, question.k, question.decision_ids)

    def answers(self, rankings: Sequence[Ranking]) -> list[bytes]:
        """The prediction for each customer, as JSON but for the customer's id."""
        versions, question = self._versions(), self.question
        heads = zip(question.decision_ids, question.as_of, strict=True)
        explanations: Sequence[Explanation | None] = self.explanations or [None] * len(rankings)
        bodies = zip(rankings, explanations, strict=True)
        return [
            written(decision_id, as_of, versions, self.fallback, ranking, explanation)
            for (decision_id, as_of), (ranking, explanation) in zip(heads, bodies, strict=True)
        ]

    def first(self, rankings: Sequence[Ranking]) -> ScoredRows | None:
        """One pair for each customer who was scored: the first in rank, or any where all offers were withheld.

        Leaving those out would look like drift: they are not like the others.
        """
        if not self.feeds or self.scores is None:
            return None
        question, order = self.question, self.places
        eligible = question.pairs.eligible
        customers = np.flatnonzero(eligible.any(axis=1))
        places = eligible.argmax(axis=1)
        for row, ranking in enumerate(rankings):
            if ranking.ranked:
                places[row] = order[ranking.ranked[0].offer.id]
        pair = question.pairs.row[customers, places[customers]]
        return ScoredRows(
            self.scores.version,
            {name: values[pair] for name, values in question.pairs.columns.items()},
            self.scores.propensity[pair],
            self.selection.word if self.selection and self.selection.bundle == self.scores.version else "",
        )

    @property
    def places(self) -> dict[str, int]:
        """The place of each offer in the policy."""
        return {offer.id: place for place, offer in enumerate(self.policy.offers)}

    def _versions(self) -> dict[str, str | None]:
        catalogue = self.policy.catalogue
        return {
            "model": self.scores.version if self.scores else None,
            "policy": catalogue.policy.version,
            "catalogue": f"{catalogue.name}-{catalogue.version}",
        }
