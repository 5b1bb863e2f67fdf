"""The arbitration policy: who may get which offer, and in which order.

Arbitration has four steps. The rules withhold offers, each with a reason. Every other offer gets a score in EUR,
P * C * V * L - cost: propensity, context weight, value, lever. The best score gets the first place, or a draw gives it
where the catalogue explores. Limits on families, then on places, cut the list.
`Policy.decide` returns columns; `Policy.arbitrate` turns them into answers, one for each customer.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from offers.contract.contract import Contract
from offers.errors import PolicyError
from offers.policy.answers import rankings
from offers.policy.catalogue import Catalogue
from offers.policy.decided import COSTLY, CROWDED, LATE, RULED_OUT, SHOWN, Decided, bit
from offers.policy.pairs import Columns, Pairing, Pairs, Standing, one_each
from offers.policy.ranking import Ranking

Places = int | Sequence[int | None] | None
"""How many places an answer has, for all customers or for each; None for the catalogue's `k`."""


@dataclass(frozen=True)
class _Candidates:
    """The offers that may be shown, and the preference that orders them; arrays of shape (n_customers, n_offers)."""

    valid: np.ndarray
    preference: np.ndarray
    propensity: np.ndarray
    score: np.ndarray
    action_probability: np.ndarray
    why_here: np.ndarray


class Policy:
    """A catalogue, compiled against the contract that it was loaded with.

    Attributes
    ----------
    catalogue : Catalogue
    offers : its offers by falling value, then by id: the order that breaks ties
    offer_ids : their ids, in the same order
    pairing : joins customers with these offers
    """

    def __init__(self, catalogue: Catalogue, contract: Contract) -> None:
        self.catalogue = catalogue
        self.offers = tuple(sorted(catalogue.offers, key=lambda offer: (-offer.value, offer.id)))
        self.offer_ids = [offer.id for offer in self.offers]
        self.pairing = Pairing(catalogue, self.offers, contract)
        self._value, self._cost, self._weight, self._lever = (
            np.array([getattr(offer, key) for offer in self.offers]) for key in ("value", "cost", "weight", "lever")
        )
        self._factors = np.array([self._value, -self._cost])
        self._bits_of_lever = (self._lever > 1) * bit("RAISED_BY_LEVER") + (self._lever < 1) * bit("LOWERED_BY_LEVER")
        self._limits = [
            (np.array([offer.family == family.name for offer in self.offers]), family.limit)
            for family in catalogue.families
            if family.limit is not None
        ]

    def expand(self, columns: Columns, offers: Sequence[Collection[str] | None] | None = None) -> Pairs:
        """Join customers with the offers that the rules let them have.

        Parameters
        ----------
        columns : customer and context columns of the contract by name, shape (n_customers,), typed and checked
            a category as `Coded`, or as words with None where missing; other types as numbers, NaN where missing; a
            DataFrame holds such columns, too
        offers : for each customer the ids to choose from, or None for all

        Returns
        -------
        Pairs
            its `columns` are the input of one predictor call; without an eligible pair no call is needed

        Raises
        ------
        PolicyError
            a column is missing or of another length, or an id is unknown
        """
        return self.pairing.join(columns, offers)

    def arbitrate(
        self, pairs: Pairs, propensity: np.ndarray, k: Places = None, keys: Sequence[str] | None = None
    ) -> list[Ranking]:
        """Rank by expected margin, score = P * C * V * L - cost.

        An offer with a score below 0 is withheld, because contacting the customer would lose money. Ties of score go to
        the higher value, then to the lower id. Where the catalogue explores, the first place is drawn among all offers
        that are eligible and worth their cost, and the others follow by score. The limits of families apply before k.

        Parameters
        ----------
        pairs : from `expand`
        propensity : ndarray, shape (n_rows,), in [0, 1], calibrated
        k : places in an answer, 1 at least
        keys : the key of each customer's decision; only exploration needs it, and the same key draws the same offer

        Returns
        -------
        list of Ranking
            one for each customer

        Raises
        ------
        PolicyError
            propensities are too few, not finite or outside [0, 1]; k is below 1; keys are missing
        """
        return self._answers(self.decide(pairs, _dense(pairs, propensity), k, keys))

    def decide(
        self, standing: Standing, propensity: np.ndarray, k: Places = None, keys: Sequence[str] | None = None
    ) -> Decided:
        """Arbitrate in columns; order, parameters and errors are those of `arbitrate`.

        Parameters
        ----------
        propensity : ndarray, shape (n_customers, n_offers), in [0, 1], calibrated; NaN where a pair is not eligible
        """
        score = propensity * standing.weight * self._value * self._lever - self._cost
        valid = score >= 0  # NaN, the score of a pair that is not eligible, compares as False.
        preference = np.where(valid, score, -np.inf)
        exploration = self.catalogue.policy.exploration
        probability = exploration.probabilities(preference)
        best, first = preference.argmax(axis=1), exploration.draw(probability, keys)
        why_here = self._why_here(propensity, standing.weight, valid, best, first)
        # The drawn offer leads whatever its score. Where no offer is valid the draw means nothing, and none is shown.
        preference[np.arange(len(first)), first] = np.inf
        candidates = _Candidates(valid, preference, propensity, score, probability, why_here)
        return self._decided(standing, candidates, k)

    def first_place(self, pairs: Pairs, propensity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the probabilities by which `arbitrate` draws the first place, without drawing.

        Returns
        -------
        probability : ndarray, shape (n_customers, n_offers)
            of each offer to be put first; a row sums to 1, or to 0 where nothing can be offered
        margin : ndarray, shape (n_customers, n_offers), EUR
            expected earnings of a contact, P * value - cost; NaN where the pair is not eligible
        """
        score = self.scores(pairs, propensity)
        preference = np.where(score >= 0, score, -np.inf)
        margin = _dense(pairs, propensity) * self._value - self._cost
        return self.catalogue.policy.exploration.probabilities(preference), margin

    def scores(self, pairs: Pairs, propensity: np.ndarray) -> np.ndarray:
        """Compute the scores of `arbitrate` in EUR, shape (n_customers, n_offers); NaN where not eligible."""
        return np.asarray(_dense(pairs, propensity) * pairs.weight * self._value * self._lever - self._cost)

    def by_value(self, pairs: Pairs, k: Places = None) -> list[Ranking]:
        """Rank eligible offers by value, then by id, without exploring: the fallback while the predictor is away.

        Raises
        ------
        PolicyError
            the catalogue declares no fallback, or k is below 1
        """
        if self.catalogue.policy.fallback is None:
            raise PolicyError(f"catalogue {self.catalogue.name} declares no fallback; 'fallback: value' would be one")
        preference = np.where(pairs.eligible, self._value, -np.inf)
        first = pairs.eligible & (np.arange(len(self.offers)) == preference.argmax(axis=1)[:, None])
        unscored, why_here = np.full(first.shape, np.nan), np.full(first.shape, bit("BY_VALUE"))
        candidates = _Candidates(pairs.eligible, preference, unscored, unscored, first.astype(float), why_here)
        return self._answers(self._decided(pairs, candidates, k))

    def _answers(self, decided: Decided) -> list[Ranking]:
        return rankings(decided, self.offers, self.pairing.eligibility)

    def _why_here(
        self, P: np.ndarray, weight: np.ndarray, valid: np.ndarray, best: np.ndarray, first: np.ndarray
    ) -> np.ndarray:
        places = np.arange(len(self.offers))
        is_best, is_first = places == best[:, None], places == first[:, None]
        factors = np.empty((3, *valid.shape))
        factors[0], factors[1:] = P, self._factors[:, None]
        highest_P, highest_value, lowest_cost = _stands_out(factors, valid)
        reasons = {
            "HIGHEST_SCORE": is_best,
            "DRAWN_TO_EXPLORE": is_first & ~is_best,
            "BY_SCORE": ~(is_best | is_first),
            "HIGHEST_PROPENSITY": highest_P,
            "HIGHEST_VALUE": highest_value,
            "LOWEST_COST": lowest_cost,
            "RAISED_BY_CONTEXT": weight > self._weight,
            "LOWERED_BY_CONTEXT": weight < self._weight,
        }
        bits = np.repeat(self._bits_of_lever[None], len(valid), axis=0)
        for code, where in reasons.items():
            bits += where * bit(code)
        return bits

    def _decided(self, standing: Standing, candidates: _Candidates, k: Places) -> Decided:
        order = np.argsort(-candidates.preference, axis=1, kind="stable")
        rows = np.arange(len(order))[:, None]
        free = self.within_limits(candidates.valid[rows, order], order)
        rank = free.cumsum(axis=1)
        winners = free & (rank <= most_places(self, k, len(rank)))
        fate = np.empty_like(order)
        fate[rows, order] = np.where(winners, SHOWN, np.where(self._crowded(winners, order), CROWDED, LATE))
        # An earlier step overrules a later one: the answer gives the reason of the first step that withheld the offer.
        fate[~candidates.valid] = COSTLY
        fate[~standing.eligible] = RULED_OUT
        fate[~standing.asked] = SHOWN
        customer, place = np.nonzero(winners)
        return Decided(
            standing,
            customer,
            rank[customer, place],
            order[customer, place],
            candidates.propensity,
            candidates.score,
            candidates.action_probability,
            candidates.why_here,
            fate,
        )

    def within_limits(self, valid: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Mark the offers, in order, that the limits of families leave."""
        free = valid.copy()
        for members, limit in self._limits:
            member = members[order]
            free &= ~member | (member.cumsum(axis=1) <= limit)
        return free

    def _crowded(self, shown: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Mark the offers whose family already has as many shown ahead of them as its limit allows."""
        crowded = np.zeros_like(shown)
        for members, limit in self._limits:
            member = members[order]
            crowded |= member & ((member & shown).cumsum(axis=1) >= limit)
        return crowded


def most_places(policy: Policy, k: Places, n_customers: int) -> np.ndarray:
    """The places of each customer's answer, shape (n_customers, 1); raises PolicyError where k is below 1."""
    counts = [k] * n_customers if k is None or isinstance(k, int) else list(k)
    one_each("k", counts, n_customers)
    numbers = [policy.catalogue.policy.k if number is None else number for number in counts]
    if wrong := [number for number in numbers if number < 1]:
        raise PolicyError(f"k: expected a whole number of 1 at least, got {wrong[0]}")
    return np.array([min(number, len(policy.offers)) for number in numbers], np.int64)[:, None]


def _dense(pairs: Pairs, propensity: np.ndarray) -> np.ndarray:
    values = np.asarray(propensity, np.float64)
    if values.shape != (len(pairs),):
        raise PolicyError(f"propensity: expected one for each of {len(pairs)} rows, got shape {values.shape}")
    within = (values >= 0) & (values <= 1)
    if not within.all():
        raise PolicyError(f"propensity: expected numbers from 0 to 1, got {values[~within][0]}")
    dense = np.full(pairs.eligible.shape, np.nan)
    dense[pairs.eligible] = values[pairs.row[pairs.eligible]]
    return dense


def _stands_out(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mark the candidates that have their customer's highest value; none where all candidates have the same value."""
    high = np.where(valid, values, -np.inf).max(axis=-1, keepdims=True)
    low = np.where(valid, values, np.inf).min(axis=-1, keepdims=True)
    return np.asarray((values == high) & (high > low))
