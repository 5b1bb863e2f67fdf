"""What a candidate would have earned at each place of its answers, from the places' exact marginal probabilities.

Only the first place is drawn, and the rest of an answer follows from that draw. So the probability that an offer has a
place is a sum over draws, exact for any policy. The estimate weighs each offer that was shown by how much more often
the candidate shows it at the same place: item-position-wise inverse propensities, after Li, Abbasi-Yadkori, Kveton,
Muthukrishnan, Vinay and Wen, "Offline Evaluation of Ranking Policies with Click Models" (KDD 2018). It takes for
granted that what an offer earns depends on its place and not on its neighbours. No model speaks for offers that were
never shown at a place, so a place with such offers is refused.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offers.errors import DataError
from offers.experiments.off_policy import UNSUPPORTED, Difference, Floats, interval


@dataclass(frozen=True)
class PlacedDecisions:
    """Decisions by place, with the marginal probabilities of both policies. The last offer is to show nothing.

    Attributes
    ----------
    customer : ndarray, shape (n,)
    offer : ndarray of int, shape (n, n_places)
        the offer that was shown at each place
    reward : ndarray, shape (n, n_places), EUR
    incumbent, candidate : ndarray, shape (n, n_places, n_offers)
        probability that an offer has the place; each row of offers sums to 1

    Raises
    ------
    DataError
        shapes differ, or an offer was shown at a place where the incumbent never shows it
    """

    customer: NDArray[np.generic]
    offer: NDArray[np.intp]
    reward: Floats
    incumbent: Floats
    candidate: Floats

    def __post_init__(self) -> None:
        shape = self.offer.shape
        if self.reward.shape != shape or self.incumbent.shape[:2] != shape or len(self.customer) != shape[0]:
            raise DataError(f"places: expected arrays of {shape[0]} decisions and {shape[1]} places")
        if self.candidate.shape != self.incumbent.shape:
            raise DataError(f"places: expected candidate probabilities of shape {self.incumbent.shape}")
        if not (self._shown(self.incumbent) > 0).all():
            raise DataError("places: expected a probability above 0 for each offer that was shown at its place")

    @property
    def weight(self) -> Floats:
        """Marginal probability of each shown offer under the candidate / that under the incumbent, (n, n_places)."""
        return self._shown(self.candidate) / self._shown(self.incumbent)

    @property
    def unsupported(self) -> Floats:
        """The candidate's mean probability, at each place, of offers that the incumbent never shows there."""
        return np.asarray(np.where(self.incumbent > 0, 0, self.candidate)[..., :-1].sum(axis=2).mean(axis=0))

    def _shown(self, values: Floats) -> Floats:
        return np.take_along_axis(values, self.offer[..., None], axis=2)[..., 0]


@dataclass(frozen=True)
class PlaceDifference:
    """The candidate's earnings minus the incumbent's at one place, or the reason why the log can't tell them.

    Attributes
    ----------
    place : from 1
    difference : EUR per decision, with the 95 % interval; None where it is refused
    effective : effective sample size
    unsupported : share of the candidate's probability on offers that the incumbent never shows at this place
    refusal : empty where there is a difference
    """

    place: int
    difference: Difference | None
    effective: float
    unsupported: float
    refusal: str


@dataclass(frozen=True)
class PlaceEvaluation:
    """The differences by place, and that of all places together, None where any place is refused."""

    places: tuple[PlaceDifference, ...]
    total: Difference | None


def marginals(probability: Floats, slates: NDArray[np.intp]) -> Floats:
    """Compute the probability that an offer has a place.

    Parameters
    ----------
    probability : ndarray, shape (n, n_offers), of each offer to be drawn for the first place
    slates : ndarray of int, shape (n, n_offers, n_places)
        the offers of the answer to each draw, as `Policy.slates` returns them

    Returns
    -------
    ndarray, shape (n, n_places, n_offers + 1)
        the last is to show nothing
    """
    n_rows, n_offers, n_places = slates.shape
    shares = np.zeros((n_rows, n_places, n_offers + 1))
    row, place = np.arange(n_rows)[:, None], np.arange(n_places)
    for draw in range(n_offers):
        # -1, an empty place, is the last offer.
        shares[row, place, slates[:, draw]] += probability[:, draw, None]
    shares[..., -1] += 1 - probability.sum(axis=1, keepdims=True)
    # A remainder that comes from rounding is not a probability of showing nothing.
    shares[..., -1] = np.where(shares[..., -1] < 1e-9, 0.0, shares[..., -1])
    return shares


def evaluate(decisions: PlacedDecisions) -> PlaceEvaluation:
    """Estimate the difference at each place, and at all together: the mean of (w - 1) r over decisions."""
    weight, unsupported = decisions.weight, decisions.unsupported
    terms = (weight - 1) * decisions.reward
    places = tuple(
        _place(place + 1, terms[:, place], weight[:, place], float(unsupported[place]), decisions.customer)
        for place in range(weight.shape[1])
    )
    refused = any(place.refusal for place in places)
    return PlaceEvaluation(places, None if refused else _difference(terms.sum(axis=1), decisions.customer))


def _place(
    place: int, terms: Floats, weight: Floats, unsupported: float, customer: NDArray[np.generic]
) -> PlaceDifference:
    effective = float(weight.sum() ** 2 / max((weight**2).sum(), 1e-300))
    refusal = f"{unsupported:.1%} of its offers were never shown here" if unsupported > UNSUPPORTED else ""
    difference = None if refusal else _difference(terms, customer)
    return PlaceDifference(place, difference, effective, unsupported, refusal)


def _difference(terms: Floats, customer: NDArray[np.generic]) -> Difference:
    value = float(terms.mean())
    return Difference(value, *interval(value, terms, customer))
