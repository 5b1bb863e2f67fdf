"""Reasons in plain sentences: which columns moved a propensity most, and why each other offer is withheld."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.contract.values import shown_number
from offers.policy.catalogue import NOT_WORTH_ITS_COST
from offers.policy.eligibility import Eligibility
from offers.policy.ranking import Ranking, Reason, WithheldOffer

MOST_COLUMNS = 2
"""Columns that are told of the first offer."""
MOST_REASONS = 4
"""Sentences that are told of a withheld offer."""

Values = Mapping[str, Any]
"""A row's value in each input column of the contract; None or NaN where it is missing."""


@dataclass(frozen=True)
class Explanation:
    """The reasons of one answer.

    Attributes
    ----------
    first : sentences about the offer in first place
    withheld : sentences about each withheld offer, in the answer's order
    """

    first: tuple[str, ...]
    withheld: tuple[tuple[str, ...], ...]


class Explainer:
    """Explains the answers of a policy in the words of its contract.

    A protected column is told with the justification that the contract or the rule gives for its use. Without one,
    the contribution of such a column is passed over.
    """

    def __init__(self, contract: Contract, eligibility: Eligibility) -> None:
        self.contract = contract
        self._rules = eligibility.rule_of

    def explain(
        self, ranking: Ranking, rows: Mapping[str, Values], contributions: Mapping[str, np.ndarray]
    ) -> Explanation:
        """Explain one answer.

        Parameters
        ----------
        rows : values by offer id, of every offer in the answer
        contributions : by offer id, shape (n_inputs,), in log-odds; of offers whose propensity is to be explained
        """
        first = [entry.offer.id for entry in ranking.ranked[:1] if entry.offer.id in contributions]
        moved = (self._movers(rows[one], contributions[one], MOST_COLUMNS) for one in first)
        withheld = (self._principal(entry, rows, contributions)[:MOST_REASONS] for entry in ranking.withheld)
        return Explanation(next(moved, ()), tuple(withheld))

    def _principal(
        self, entry: WithheldOffer, rows: Mapping[str, Values], contributions: Mapping[str, np.ndarray]
    ) -> tuple[str, ...]:
        offer, values = entry.offer.id, rows[entry.offer.id]
        sentences = tuple(self._sentence(reason, entry.score, values) for reason in entry.reasons)
        if offer in contributions:
            lowering = np.minimum(contributions[offer], 0)
            return sentences + self._movers(values, lowering, MOST_REASONS - len(sentences))
        return sentences

    def _sentence(self, reason: Reason, score: float | None, values: Values) -> str:
        if reason.code == NOT_WORTH_ITS_COST and score is not None:
            return f"Its expected margin, {score:.2f} EUR, does not pay for the contact."
        rule = self._rules.get(reason)
        if rule is None:
            return f"{reason.text[0].upper()}{reason.text[1:]}."
        columns = [column for column in self.contract.inputs if column.name in rule.columns]
        facts = " and ".join(f"{column.name} is {_shown(column, values[column.name])}" for column in columns)
        why = f" ({rule.justification})" if rule.justification else ""
        return f"It requires {rule}; {facts}.{why}"

    def _movers(self, values: Values, contributions: np.ndarray, most: int) -> tuple[str, ...]:
        sentences = list[str]()
        for place in np.argsort(-np.abs(contributions), kind="stable"):
            column, moved = self.contract.inputs[place], float(contributions[place])
            if len(sentences) >= most or moved == 0:
                break
            if not column.protected or column.justification:
                sentences.append(_mover(column, values[column.name], moved))
        return tuple(sentences)


def explained_offers(ranking: Ranking) -> Sequence[str]:
    """Name the offers whose propensity is a reason: the first in rank, and those that are not worth their cost."""
    costly = [one.offer.id for one in ranking.withheld if any(r.code == NOT_WORTH_ITS_COST for r in one.reasons)]
    return [entry.offer.id for entry in ranking.ranked[:1]] + costly


def _mover(column: Column, value: Any, moved: float) -> str:
    meaning = f" ({column.description})" if column.description else ""
    why = f" ({column.justification})" if column.protected else ""
    verb = "raises" if moved > 0 else "lowers"
    return f"{column.name}{meaning} is {_shown(column, value)}, which {verb} the propensity.{why}"


def _shown(column: Column, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "not known"
    if column.type == "boolean":
        return "yes" if value else "no"
    if column.type == "category":
        return str(value)
    return f"{shown_number(value)}{f' {column.unit}' if column.unit else ''}"
