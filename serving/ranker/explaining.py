"""Explains answers that were asked to be explained: the predictor's contributions, put into sentences."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from offers.contract.contract import Contract
from offers.errors import RequestTooLarge
from offers.policy.explanation import Explainer, explained_offers
from serving.ranker.part import Part
from serving.ranker.predictor_client import PredictorClient

MOST_PAIRS = 250
"""Pairs of customers and offers in a question to be explained: an explained row costs a hundred scored ones."""


def check_pairs(asked: np.ndarray) -> None:
    """Refuse a question with more pairs than can be explained; `asked` is of shape (n_customers, n_offers)."""
    if (n_pairs := int(asked.sum())) > MOST_PAIRS:
        raise RequestTooLarge(
            f"'explain': expected at most {MOST_PAIRS} pairs of customers and offers to be explained, got {n_pairs}:"
            " ask about fewer customers, or name 'offers'"
        )


async def explained(part: Part, predictor: PredictorClient, contract: Contract) -> Part:
    """Add the explanations of a part's answers.

    Raises
    ------
    PredictorAway
        the predictor does not answer, or is another than the one that scored
    """
    rankings, pairs, places = part.rankings(), part.question.pairs, part.places
    names = [explained_offers(ranking) if part.scores else () for ranking in rankings]
    rows = [[pairs.row[customer, places[one]] for one in theirs] for customer, theirs in enumerate(names)]
    wanted = np.unique(np.fromiter(chain.from_iterable(rows), np.int64))
    contributions = np.empty((0, len(contract.inputs)))
    if len(wanted) and part.scores:
        columns = {name: values[wanted] for name, values in pairs.columns.items()}
        contributions = await predictor.contributions(columns, part.scores.version)
    explainer = Explainer(contract, part.policy.pairing.eligibility)
    explanations = [
        explainer.explain(
            ranking,
            _values(part, customer),
            {
                one: contributions[np.searchsorted(wanted, row)]
                for one, row in zip(names[customer], rows[customer], strict=True)
            },
        )
        for customer, ranking in enumerate(rankings)
    ]
    return replace(part, explanations=explanations)


def _values(part: Part, customer: int) -> Mapping[str, Mapping[str, Any]]:
    """A customer's values with those of each offer, in all input columns, by offer id."""
    pairing = part.policy.pairing
    own = {name: values[customer] for name, values in part.question.pairs.given.items()}
    return {
        offer.id: own | {name: values[place] for name, values in pairing.attributes.items()}
        for place, offer in enumerate(part.policy.offers)
    }
