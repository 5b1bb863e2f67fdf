"""The arbitration policy: who may get which offer, and in which order.

Rules first, with a reason for each offer that is withheld; then score = P * C * V * L - cost in EUR (propensity,
context weight, value, lever); then the first place, drawn where the catalogue explores; then the limits.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import numpy as np

from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.errors import PolicyError
from offers.model.encoder import Coded
from offers.policy.catalogue import BEYOND_K, FAMILY_LIMIT, NOT_WORTH_ITS_COST, Catalogue, Offer
from offers.policy.eligibility import Eligibility, Judgement
from offers.policy.ranking import WHY_HERE, RankedOffer, Ranking, Reason, WithheldOffer, split
from offers.policy.rules import Test, codes, compiled

Places = int | Sequence[int | None] | None
"""How many places an answer has, for all customers or for each; None for the catalogue's `k`."""


class Columns(Protocol):
    """Columns by name: a mapping of arrays, or a DataFrame."""

    def __getitem__(self, name: str, /) -> Any: ...

    def __contains__(self, name: object, /) -> bool: ...


_SHOWN, _RULED_OUT, _COSTLY, _CROWDED, _LATE = range(5)
_AFTER_RULES = {
    _COSTLY: (Reason(NOT_WORTH_ITS_COST, "arbitration", True, "its expected margin does not pay for the contact"),),
    _CROWDED: (Reason(FAMILY_LIMIT, "arbitration", True, "better offers fill the limit of its family"),),
    _LATE: (Reason(BEYOND_K, "arbitration", True, "better offers fill the answer"),),
}


@dataclass(frozen=True)
class Pairs:
    """The eligible (customer, offer) pairs of a request, by customer, ready for one predictor call.

    Offers that differ in value or in rules alone are one to the model, so that such pairs share a row.

    Attributes
    ----------
    columns : each input column of the contract, shape (n_rows,); words as object, other types as numbers
    customer, offer : ndarray of int, shape (n_rows,)
        the row's customer in the request, and the place in `Policy.offers` of the first offer that it stands for
    row : ndarray of int, shape (n_customers, n_offers)
        the row of each pair; it means nothing where the pair is not eligible
    asked, eligible : ndarray of bool, shape (n_customers, n_offers)
    judgement : what the rules say
    weight : ndarray, shape (n_customers, n_offers)
        context weights
    """

    columns: dict[str, np.ndarray]
    customer: np.ndarray
    offer: np.ndarray
    row: np.ndarray
    asked: np.ndarray
    eligible: np.ndarray
    judgement: Judgement
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.customer)


@dataclass(frozen=True)
class _Candidates:
    """What may be shown, and by which preference; arrays of shape (n_customers, n_offers)."""

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
    """

    def __init__(self, catalogue: Catalogue, contract: Contract) -> None:
        self.catalogue = catalogue
        self.offers = tuple(sorted(catalogue.offers, key=lambda offer: (-offer.value, offer.id)))
        self._places = {offer.id: place for place, offer in enumerate(self.offers)}
        self._inputs = {column.name: column for column in contract.inputs}
        self._words = {column.name: np.array([*column.values, None], object) for column in contract.inputs}
        self._attributes = {
            column.name: _attribute(self.offers, column.name, column.type == "category")
            for column in contract.inputs
            if column.role == Role.OFFER
        }
        self._variant, self._variants = _alike(self.offers, self._attributes)
        self._is_variant = self._variant[:, None] == np.arange(len(self._variants))
        self._value, self._cost, self._weight, self._lever = (
            np.array([getattr(offer, key) for offer in self.offers]) for key in ("value", "cost", "weight", "lever")
        )
        self._factors = np.array([self._value, -self._cost])
        self._bits_of_lever = (self._lever > 1) * _bit("RAISED_BY_LEVER") + (self._lever < 1) * _bit("LOWERED_BY_LEVER")
        self._limits = [
            (np.array([offer.family == family.name for offer in self.offers]), family.limit)
            for family in catalogue.families
            if family.limit is not None
        ]
        coded = {name: codes(contract[name], values)[None] for name, values in self._attributes.items()}
        self._eligibility = Eligibility(catalogue, self.offers, contract, coded)
        self._context_weights = list(_context_weights(self.offers, contract, coded))
        in_weights = (weight.when.columns for offer in self.offers for weight in offer.weights)
        self._coded = self._eligibility.columns.union(*in_weights) - set(self._attributes)

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
            its `columns` are the input of one predictor call; without a pair there is nothing to call for

        Raises
        ------
        PolicyError
            a column is missing or of another length, or an id is unknown
        """
        given = self._given(columns)
        shape = len(next(iter(given.values()))), len(self.offers)
        coded = {name: codes(self._inputs[name], given[name])[:, None] for name in self._coded}
        asked, judgement = self._asked(offers, shape), self._eligibility.judge(coded, shape)
        eligible = asked & judgement.allowed
        wanted = eligible @ self._is_variant
        customer, variant = np.nonzero(wanted)
        offer = self._variants[variant]
        joined = {
            name: self._plain(name, given[name])[customer] if name in given else self._attributes[name][offer]
            for name in self._inputs
        }
        row = (wanted.cumsum().reshape(wanted.shape) - 1)[:, self._variant]
        return Pairs(joined, customer, offer, row, asked, eligible, judgement, self._weigh(coded, shape))

    def arbitrate(
        self, pairs: Pairs, propensity: np.ndarray, k: Places = None, keys: Sequence[str] | None = None
    ) -> list[Ranking]:
        """Rank by expected margin, score = P * C * V * L - cost.

        An offer with a score below 0 is withheld: to contact for it loses money. Ties of score go to the higher value,
        then to the lower id. Where the catalogue explores, the first place is drawn among all offers that are eligible
        and worth their cost, and the others follow by score. The limits of families, then k, hold in that order.

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
        P = _dense(pairs, propensity)
        score = P * pairs.weight * self._value * self._lever - self._cost
        valid = score >= 0
        preference = np.where(valid, score, -np.inf)
        exploration = self.catalogue.policy.exploration
        probability = exploration.probabilities(preference)
        best, first = preference.argmax(axis=1), exploration.draw(probability, keys)
        why_here = self._why_here(P, pairs.weight, valid, best, first)
        preference[np.arange(len(first)), first] = np.inf
        return self._rankings(pairs, _Candidates(valid, preference, P, score, probability, why_here), k)

    def by_value(self, pairs: Pairs, k: Places = None) -> list[Ranking]:
        """Rank eligible offers by value, then by id: the fallback while the predictor is away. Nothing is explored.

        Raises
        ------
        PolicyError
            the catalogue declares no fallback, or k is below 1
        """
        if self.catalogue.policy.fallback is None:
            raise PolicyError(f"catalogue {self.catalogue.name} declares no fallback; 'fallback: value' would be one")
        preference = np.where(pairs.eligible, self._value, -np.inf)
        first = pairs.eligible & (np.arange(len(self.offers)) == preference.argmax(axis=1)[:, None])
        unscored, why_here = np.full(first.shape, np.nan), np.full(first.shape, _bit("BY_VALUE"))
        candidates = _Candidates(pairs.eligible, preference, unscored, unscored, first.astype(float), why_here)
        return self._rankings(pairs, candidates, k)

    def _given(self, columns: Columns) -> dict[str, np.ndarray | Coded]:
        wanted = [name for name in self._inputs if name not in self._attributes]
        if absent := [name for name in wanted if name not in columns]:
            raise PolicyError(f"column {absent[0]!r} is missing; expected {', '.join(wanted)}")
        given = {name: columns[name] for name in wanted}
        if len(set(map(len, given.values()))) > 1:
            for name, values in given.items():
                _one_each(f"column {name!r}", values, len(given[wanted[0]]))
        return given

    def _plain(self, name: str, values: np.ndarray | Coded) -> np.ndarray:
        if not isinstance(values, Coded):
            return np.asarray(values)
        # fmax(NaN, -1) is -1, so a missing category picks the table's last entry, None.
        return np.asarray(self._words[name][np.fmax(values.places, -1).astype(np.intp)])

    def _asked(self, offers: Sequence[Collection[str] | None] | None, shape: tuple[int, int]) -> np.ndarray:
        asked = np.ones(shape, bool)
        if offers is not None:
            _one_each("offers", offers, len(asked))
            for row, ids in zip(asked, offers, strict=True):
                if ids is not None:
                    row[:] = False
                    row[[self._place(offer_id) for offer_id in ids]] = True
        return asked

    def _place(self, offer_id: str) -> int:
        if offer_id not in self._places:
            raise PolicyError(f"offers: expected of {', '.join(sorted(self._places))}, got {offer_id!r}")
        return self._places[offer_id]

    def _weigh(self, coded: Mapping[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        weights = np.repeat(self._weight[None], shape[0], axis=0)
        for place, test, weight in self._context_weights:
            holds, _ = test(coded)
            weights[:, place] = np.where(holds[:, 0], weight, weights[:, place])
        return weights

    def _why_here(
        self, P: np.ndarray, weight: np.ndarray, valid: np.ndarray, best: np.ndarray, first: np.ndarray
    ) -> np.ndarray:
        places = np.arange(len(self.offers))
        is_best, is_first = places == best[:, None], places == first[:, None]
        factors = np.empty((3, *valid.shape))
        factors[0], factors[1:] = P, self._factors[:, None]
        highest_P, highest_value, lowest_cost = _stands_out(factors, valid)
        found = {
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
        for code, where in found.items():
            bits += where * _bit(code)
        return bits

    def _rankings(self, pairs: Pairs, candidates: _Candidates, k: Places) -> list[Ranking]:
        order = np.argsort(-candidates.preference, axis=1, kind="stable")
        rows = np.arange(len(order))[:, None]
        free = self._within_limits(candidates.valid[rows, order], order)
        rank = free.cumsum(axis=1)
        shown = free & (rank <= self._ks(k, len(rank)))
        fate = np.empty_like(order)
        fate[rows, order] = np.where(shown, _SHOWN, np.where(free, _LATE, _CROWDED))
        fate[~candidates.valid] = _COSTLY
        fate[~pairs.eligible] = _RULED_OUT
        fate[~pairs.asked] = _SHOWN
        ranked = self._ranked(pairs, candidates, order, np.where(shown, rank, 0))
        return list(map(Ranking, ranked, self._withheld(pairs, candidates, fate)))

    def _within_limits(self, valid: np.ndarray, order: np.ndarray) -> np.ndarray:
        free = valid.copy()
        for members, limit in self._limits:
            member = members[order]
            free &= ~member | (member.cumsum(axis=1) <= limit)
        return free

    def _ks(self, k: Places, n_customers: int) -> np.ndarray:
        asked = [k] * n_customers if k is None or isinstance(k, int) else list(k)
        _one_each("k", asked, n_customers)
        numbers = [self.catalogue.policy.k if number is None else number for number in asked]
        if wrong := [number for number in numbers if number < 1]:
            raise PolicyError(f"k: expected a whole number of 1 at least, got {wrong[0]}")
        return np.array([min(number, len(self.offers)) for number in numbers], np.int64)[:, None]

    def _ranked(
        self, pairs: Pairs, candidates: _Candidates, order: np.ndarray, rank: np.ndarray
    ) -> Iterator[tuple[RankedOffer, ...]]:
        customer, place = np.nonzero(rank)
        offer = order[customer, place]
        fields = zip(
            map(self.offers.__getitem__, offer.tolist()),
            rank[customer, place].tolist(),
            _floats(candidates.propensity[customer, offer]),
            pairs.weight[customer, offer].tolist(),
            _floats(candidates.score[customer, offer]),
            candidates.action_probability[customer, offer].tolist(),
            map(_why, candidates.why_here[customer, offer].tolist()),
            strict=True,
        )
        return split(_made(RankedOffer, fields), (rank > 0).sum(axis=1))

    def _withheld(self, pairs: Pairs, candidates: _Candidates, fate: np.ndarray) -> Iterator[tuple[WithheldOffer, ...]]:
        customer, offer = np.nonzero(fate)
        by_rules = self._eligibility.reasons(pairs.judgement, pairs.asked)
        fields = zip(
            map(self.offers.__getitem__, offer.tolist()),
            [next(by_rules) if why == _RULED_OUT else _AFTER_RULES[why] for why in fate[customer, offer].tolist()],
            _floats(candidates.score[customer, offer]),
            candidates.action_probability[customer, offer].tolist(),
            strict=True,
        )
        return split(_made(WithheldOffer, fields), (fate > 0).sum(axis=1))


def _attribute(offers: Sequence[Offer], name: str, in_words: bool) -> np.ndarray:
    values = [offer.attributes.get(name) for offer in offers]
    if in_words:
        return np.array([None if value is None else str(value) for value in values], object)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _alike(offers: Sequence[Offer], attributes: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For each offer the number of its variant, and for each variant the place of its first offer."""
    first: dict[tuple[object, ...], int] = {}
    # A missing number is not equal to itself: as text it is.
    keys = [tuple(str(values[place]) for values in attributes.values()) for place in range(len(offers))]
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    variants = list(first.values())
    return np.array([variants.index(first[key]) for key in keys]), np.array(variants)


def _context_weights(
    offers: Sequence[Offer], contract: Contract, attributes: Mapping[str, np.ndarray]
) -> Iterator[tuple[int, Test, float]]:
    """Place of the offer, condition and weight; the last that holds counts, which is the first of the catalogue."""
    for place, offer in enumerate(offers):
        own = {name: values[:, [place]] for name, values in attributes.items()}
        for weight in reversed(offer.weights):
            yield place, compiled(weight.when, contract, own), weight.weight


def _one_each(name: str, values: Sized, n_customers: int) -> None:
    if len(values) != n_customers:
        raise PolicyError(f"{name}: expected one for each of {n_customers} customers, got {len(values)}")


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
    """Where a candidate has the highest of its customer's values that are not all the same."""
    high = np.where(valid, values, -np.inf).max(axis=-1, keepdims=True)
    low = np.where(valid, values, np.inf).min(axis=-1, keepdims=True)
    return np.asarray((values == high) & (high > low))


@cache
def _bit(code: str) -> int:
    return 1 << WHY_HERE.index(code)


@cache
def _why(bits: int) -> tuple[str, ...]:
    return tuple(code for code in WHY_HERE if bits & _bit(code))


def _floats(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _made(kind: Any, fields: Iterable[tuple[Any, ...]]) -> list[Any]:
    # Thousands of them stand in one answer, and a named tuple's own constructor takes three times as long.
    return list(map(partial(tuple.__new__, kind), fields))
