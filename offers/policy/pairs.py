"""Customers joined with the offers that the rules let them have: the pairs that a predictor scores."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.errors import PolicyError
from offers.model.encoder import Coded
from offers.policy.catalogue import Catalogue, Offer
from offers.policy.eligibility import Eligibility, Judgement
from offers.policy.rules import Test, codes, compiled


class Columns(Protocol):
    """Columns by name: a mapping of arrays, or a DataFrame."""

    def __getitem__(self, name: str, /) -> Any: ...

    def __contains__(self, name: object, /) -> bool: ...


@dataclass(frozen=True)
class Standing:
    """Which offers each customer may get before anything is scored.

    Attributes
    ----------
    asked, eligible : ndarray of bool, shape (n_customers, n_offers)
    judgement : verdicts of the rules
    weight : ndarray, shape (n_customers, n_offers)
        context weights
    """

    asked: np.ndarray
    eligible: np.ndarray
    judgement: Judgement
    weight: np.ndarray


@dataclass(frozen=True)
class Pairs(Standing):
    """The eligible (customer, offer) pairs of a request, by customer, ready for one predictor call.

    Offers that differ only in value or in rules look alike to the model, so their pairs share a row.

    Attributes
    ----------
    given : each customer and context column, shape (n_customers,); words as object, None for a missing one, other types
        as numbers
    columns : each input column of the contract, shape (n_rows,); words as object, other types as numbers
    customer, offer : ndarray of int, shape (n_rows,)
        the row's customer in the request, and the place in `Policy.offers` of the first offer that it stands for
    row : ndarray of int, shape (n_customers, n_offers)
        the row of each pair; meaningless where the pair is not eligible
    """

    given: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    customer: np.ndarray
    offer: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.customer)


class Pairing:
    """Joins customers with offers: a catalogue's rules and context weights, compiled against a contract.

    Attributes
    ----------
    eligibility : the rules
    attributes : the offers' values in each column of role offer, shape (n_offers,); words as object, None or NaN
        where an offer sets nothing
    variant : ndarray of int, shape (n_offers,)
        the number of each offer's variant; the model can't tell offers of one variant apart
    variants : ndarray of int, shape (n_variants,)
        the place of each variant's first offer
    """

    def __init__(self, catalogue: Catalogue, offers: Sequence[Offer], contract: Contract) -> None:
        self._places = {offer.id: place for place, offer in enumerate(offers)}
        self._inputs = {column.name: column for column in contract.inputs}
        self._words = {column.name: np.array([*column.values, None], object) for column in contract.inputs}
        self.attributes = {
            column.name: _attribute(offers, column.name, column.type == "category")
            for column in contract.inputs
            if column.role == Role.OFFER
        }
        self.variant, self.variants = _alike(offers, self.attributes)
        self._is_variant = self.variant[:, None] == np.arange(len(self.variants))
        self._weight = np.array([offer.weight for offer in offers])
        coded = {name: codes(contract[name], values)[None] for name, values in self.attributes.items()}
        self.eligibility = Eligibility(catalogue, offers, contract, coded)
        self._context_weights = list(_context_weights(offers, contract, coded))
        in_weights = (weight.when.columns for offer in offers for weight in offer.weights)
        self._coded = self.eligibility.columns.union(*in_weights) - set(self.attributes)

    def stand(self, columns: Columns, offers: Sequence[Collection[str] | None] | None = None) -> Standing:
        """Apply the rules without making rows; parameters and errors are those of `Policy.expand`."""
        return self._stand(self._given(columns), offers)

    def join(self, columns: Columns, offers: Sequence[Collection[str] | None] | None = None) -> Pairs:
        """Apply the rules, and make a row for each variant that a customer may get; see `Policy.expand`."""
        inputs = self._given(columns)
        standing = self._stand(inputs, offers)
        mask = standing.eligible @ self._is_variant
        customer, variant = np.nonzero(mask)
        offer = self.variants[variant]
        given = {name: self._plain(name, values) for name, values in inputs.items()}
        table = {
            name: given[name][customer] if name in given else self.attributes[name][offer] for name in self._inputs
        }
        row = (mask.cumsum().reshape(mask.shape) - 1)[:, self.variant]
        return Pairs(**vars(standing), given=given, columns=table, customer=customer, offer=offer, row=row)

    def _stand(
        self, inputs: Mapping[str, np.ndarray | Coded], offers: Sequence[Collection[str] | None] | None
    ) -> Standing:
        shape = len(next(iter(inputs.values()))), len(self.variant)
        coded = {name: codes(self._inputs[name], inputs[name])[:, None] for name in self._coded}
        mask, judgement = self._asked(offers, shape), self.eligibility.judge(coded, shape)
        return Standing(mask, mask & judgement.allowed, judgement, self._weigh(coded, shape))

    def _given(self, columns: Columns) -> dict[str, np.ndarray | Coded]:
        names = [name for name in self._inputs if name not in self.attributes]
        if absent := [name for name in names if name not in columns]:
            raise PolicyError(f"column {absent[0]!r} is missing; expected {', '.join(names)}")
        inputs = {name: columns[name] for name in names}
        if len(set(map(len, inputs.values()))) > 1:
            for name, values in inputs.items():
                one_each(f"column {name!r}", values, len(inputs[names[0]]))
        return inputs

    def _plain(self, name: str, values: np.ndarray | Coded) -> np.ndarray:
        if not isinstance(values, Coded):
            return np.asarray(values)
        # fmax(NaN, -1) is -1, so a missing category picks the table's last entry, None.
        return np.asarray(self._words[name][np.fmax(values.places, -1).astype(np.intp)])

    def _asked(self, offers: Sequence[Collection[str] | None] | None, shape: tuple[int, int]) -> np.ndarray:
        mask = np.ones(shape, bool)
        if offers is not None:
            one_each("offers", offers, len(mask))
            for row, ids in zip(mask, offers, strict=True):
                if ids is not None:
                    row[:] = False
                    row[[self._place(offer_id) for offer_id in ids]] = True
        return mask

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


def _attribute(offers: Sequence[Offer], name: str, in_words: bool) -> np.ndarray:
    values = [offer.attributes.get(name) for offer in offers]
    if in_words:
        return np.array([None if value is None else str(value) for value in values], object)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _alike(offers: Sequence[Offer], attributes: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Number the offers' variants: each offer's variant, and each variant's first offer by its place."""
    first: dict[tuple[object, ...], int] = {}
    # NaN does not equal itself, but its text does, so keys are texts.
    keys = [tuple(str(values[place]) for values in attributes.values()) for place in range(len(offers))]
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    variants = list(first.values())
    return np.array([variants.index(first[key]) for key in keys]), np.array(variants)


def _context_weights(
    offers: Sequence[Offer], contract: Contract, attributes: Mapping[str, np.ndarray]
) -> Iterator[tuple[int, Test, float]]:
    """Yield each weight with its offer's place and its condition, an offer's first weight last.

    Whoever applies them in turn lets the last that holds win, so the catalogue's first one counts.
    """
    for place, offer in enumerate(offers):
        own = {name: values[:, [place]] for name, values in attributes.items()}
        for weight in reversed(offer.weights):
            yield place, compiled(weight.when, contract, own), weight.weight


def one_each(name: str, values: Sized, n_customers: int) -> None:
    """Refuse a list that does not have exactly one entry for each customer."""
    if len(values) != n_customers:
        raise PolicyError(f"{name}: expected one for each of {n_customers} customers, got {len(values)}")
