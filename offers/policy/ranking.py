"""The answer for a customer: ranked offers and withheld offers, each with its reasons."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from offers.policy.catalogue import Offer, RuleKind

T = TypeVar("T")

WHY_HERE = (
    "HIGHEST_SCORE",
    "DRAWN_TO_EXPLORE",
    "BY_SCORE",
    "BY_VALUE",
    "HIGHEST_PROPENSITY",
    "HIGHEST_VALUE",
    "LOWEST_COST",
    "RAISED_BY_CONTEXT",
    "LOWERED_BY_CONTEXT",
    "RAISED_BY_LEVER",
    "LOWERED_BY_LEVER",
)
"""Reasons of a ranked offer, as codes: how it came to its place, then which factors stand out."""


class Reason(NamedTuple):
    """Why an offer is withheld. `evaluated` is False where a missing value left the rule undecided."""

    code: str
    kind: RuleKind | Literal["arbitration"]
    evaluated: bool
    text: str


class RankedOffer(NamedTuple):
    """An offer in its place.

    `score` is in EUR. `action_probability` is the probability that the policy puts this offer first, whatever rank it
    got in the end. Propensity and score are None where the ranking is the fallback by value.
    """

    offer: Offer
    rank: int
    propensity: float | None
    weight: float
    score: float | None
    action_probability: float
    reasons: tuple[str, ...]


class WithheldOffer(NamedTuple):
    """An offer that is not in the answer, and why. `score` is None where it was not scored."""

    offer: Offer
    reasons: tuple[Reason, ...]
    score: float | None
    action_probability: float


class Ranking(NamedTuple):
    """The answer for one customer: each offer that was asked for occurs once, ranked or withheld.

    The offers' action probabilities sum to 1, or to 0 where nothing can be offered.
    """

    ranked: tuple[RankedOffer, ...]
    withheld: tuple[WithheldOffer, ...]


def split(entries: Sequence[T], counts: np.ndarray) -> Iterator[tuple[T, ...]]:
    """Cut a flat list into parts of the given lengths."""
    ends = counts.cumsum().tolist()
    return (tuple(entries[start:end]) for start, end in zip([0, *ends], ends, strict=False))
