"""What the library makes of customers, by the bundle and the policy that serve; it logs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from offers.policy.ranking import RankedOffer, Ranking, WithheldOffer
from serving.app.place import Served, instance
from serving.ranker.question import QuestionSchema


@dataclass(frozen=True)
class Movers:
    """What moved the propensity of one offer, in log-odds: contributions by column, which sum with the bias to it."""

    bias: float
    contributions: Mapping[str, float]
    propensity: float


def ranked(here: Served, customers: Sequence[Mapping[str, Any]], offers: Sequence[str]) -> list[Ranking]:
    """Rank offers for customers as the ranker does, with a place for each offer.

    Parameters
    ----------
    customers : values by column, as a request brings them
    offers : ids to choose from

    Raises
    ------
    RequestError
        a value breaks the contract: names the field
    """
    instances = [instance(here.contract, str(place), dict(values)) for place, values in enumerate(customers)]
    schema = QuestionSchema(here.policy, here.contract, len(instances))
    question = schema.read({"instances": [one | {"offers": list(offers)} for one in instances]})
    propensity = here.bundle.model.propensity(question.pairs.columns)
    return here.policy.arbitrate(question.pairs, propensity, len(here.policy.offers), question.customer_ids)


def scores(here: Served, customers: Sequence[Mapping[str, Any]], offers: Sequence[str]) -> dict[str, list[float]]:
    """Score offers for customers: EUR by offer, a number for each customer; NaN where a rule withholds the offer."""
    curves: dict[str, list[float]] = {offer: [float("nan")] * len(customers) for offer in offers}
    for place, ranking in enumerate(ranked(here, customers, offers)):
        entries: list[RankedOffer | WithheldOffer] = [*ranking.ranked, *ranking.withheld]
        for entry in entries:
            if entry.score is not None and entry.offer.id in curves:
                curves[entry.offer.id][place] = entry.score
    return curves


def movers(here: Served, values: Mapping[str, Any], offer: str) -> Movers:
    """Find what moved the propensity of an offer that the rules let a customer have."""
    schema = QuestionSchema(here.policy, here.contract, 1)
    question = schema.read({"instances": [instance(here.contract, "0", dict(values)) | {"offers": [offer]}]})
    place = next(place for place, one in enumerate(here.policy.offers) if one.id == offer)
    row = [int(question.pairs.row[0, place])]
    columns = {name: np.asarray(cells)[row] for name, cells in question.pairs.columns.items()}
    model = here.bundle.model
    parts = model.contributions(columns)[0]
    by_column = dict(zip(model.encoder.names, parts[:-1].tolist(), strict=True))
    return Movers(float(parts[-1]), by_column, float(model.propensity(columns)[0]))
