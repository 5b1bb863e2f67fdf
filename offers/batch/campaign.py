"""A campaign as one YAML file: its budget, its capacities, its contacts per customer, its minimums and floors."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from offers.errors import CampaignError
from offers.policy.catalogue import Name, Offer
from offers.policy.rules import Value
from offers.yaml_file import Kind, Problem, Section, Text

Contacts = Annotated[int, Field(ge=0, le=10**9, strict=True)]

CONTACT = "contact"
"""The unit of all constraints but the budget."""

_FILE = Kind("campaign", "offers.batch", "name, capacity, budget, minimum and exposure", CampaignError)


class Capacity(Section):
    """At most `contacts` contacts with offers that have the attributes in `where`: a channel, a channel on a day."""

    name: Name
    where: Annotated[dict[str, Value], Field(min_length=1)]
    contacts: Contacts


class Minimum(Section):
    """At least `contacts` contacts with offers of a family."""

    family: Name
    contacts: Contacts


class Exposure(Section):
    """A floor for a protected group: contacts, as a share of those of its customers who can get an offer."""

    column: Annotated[str, Field(min_length=1)]
    group: Text
    share: Annotated[float, Field(ge=0, le=1, strict=True)]


class Period(Section):
    """At most `contacts` contacts of a customer in the `days` days up to the campaign's own, by all plans together."""

    contacts: Annotated[int, Field(ge=1, le=100, strict=True)]
    days: Annotated[int, Field(ge=1, le=3660, strict=True)]


class Campaign(Section):
    """The limits of a campaign; `date` is its day, and `budget` the most that its contacts may cost, in EUR."""

    name: Name
    date: dt.date | None = None
    period: Period | None = None
    per_customer: Annotated[int, Field(ge=1, le=100, strict=True)] = 1
    budget: Annotated[float, Field(ge=0, le=1e12, strict=True)] | None = None
    capacity: tuple[Capacity, ...] = ()
    minimum: tuple[Minimum, ...] = ()
    exposure: tuple[Exposure, ...] = ()


@dataclass(frozen=True)
class Constraints:
    """Rows of `usage @ contacts <= limit`, where `contacts` has the number for each offer; minimums are negated.

    Attributes
    ----------
    names : each row's constraint: the name of a capacity, "budget", the family of a minimum, the group of a floor
    units : what each row counts, "contact" or "EUR"
    usage : ndarray, shape (n_constraints, n_offers)
    limit : ndarray, shape (n_constraints,)
    per_customer : the most contacts of a customer
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    usage: np.ndarray
    limit: np.ndarray
    per_customer: int

    @property
    def is_minimum(self) -> np.ndarray:
        return np.asarray((self.usage < 0).any(axis=1))

    def keeps(self, contacts: np.ndarray) -> bool:
        """Whether these numbers of contacts by offer satisfy every constraint."""
        return bool((self.usage @ contacts <= self.limit + 1e-6).all())

    def amount(self, place: int, number: float) -> str:
        """Write a number of a constraint's units, such as 1 contact, 2,000 contacts or 500 EUR."""
        unit = self.units[place]
        return f"{number:,.10g} {unit}{'s' if unit == CONTACT and number != 1 else ''}"


def load(where: str, offers: Sequence[Offer], protected: Sequence[str] = ()) -> tuple[Campaign, Constraints]:
    """Read a campaign from a YAML file or its text, and check it against the offers of a catalogue.

    Parameters
    ----------
    protected : the columns whose groups may have a floor of exposure

    Raises
    ------
    CampaignError
        the text is not YAML, a key is unknown or has a wrong value (a negative capacity), or no offer has a channel or
        a family that it names, or a floor's column is not protected; the message names line and key
    """
    text, origin = _FILE.find(where)
    document = _FILE.read(text, origin)
    campaign = document.into(Campaign)
    document.refuse(_problems(campaign, offers, protected))
    return campaign, _constraints(campaign, offers)


def _problems(campaign: Campaign, offers: Sequence[Offer], protected: Sequence[str]) -> Iterator[Problem]:
    families = {offer.family for offer in offers}
    names = [capacity.name for capacity in campaign.capacity]
    for place, capacity in enumerate(campaign.capacity):
        if capacity.name in names[:place]:
            yield ("capacity", place, "name"), f"{capacity.name!r} stands twice"
        for column, value in capacity.where.items():
            values = sorted({str(offer.attributes[column]) for offer in offers if column in offer.attributes})
            if str(value) not in values:
                expected = f"expected one of {', '.join(values)}" if values else "no offer sets it"
                yield ("capacity", place, "where", column), f"{expected}, got {value!r}"
    for place, minimum in enumerate(campaign.minimum):
        if minimum.family not in families:
            yield ("minimum", place, "family"), f"expected one of {', '.join(sorted(families))}, got {minimum.family!r}"
    if campaign.period and not campaign.date:
        yield ("period",), "expected key date beside it, the day of the contacts, got none"
    for place, floor in enumerate(campaign.exposure):
        if floor.column not in protected:
            expected = (
                f"one of the protected columns {', '.join(protected)}"
                if protected
                else "a contract that protects columns"
            )
            yield ("exposure", place, "column"), f"expected {expected}, got {floor.column!r}"


def _constraints(campaign: Campaign, offers: Sequence[Offer]) -> Constraints:
    rows: list[tuple[str, str, list[float], float]] = []
    for capacity in campaign.capacity:
        usage = [float(_has(offer, capacity.where)) for offer in offers]
        rows.append((capacity.name, CONTACT, usage, capacity.contacts))
    if campaign.budget is not None:
        rows.append(("budget", "EUR", [offer.cost for offer in offers], campaign.budget))
    for minimum in campaign.minimum:
        usage = [-float(offer.family == minimum.family) for offer in offers]
        rows.append((f"minimum of {minimum.family}", CONTACT, usage, -minimum.contacts))
    names, units, usages, limits = zip(*rows, strict=True) if rows else ((), (), (), ())
    usage_matrix = np.array(usages, np.float64).reshape(len(rows), len(offers))
    return Constraints(tuple(names), tuple(units), usage_matrix, np.array(limits, np.float64), campaign.per_customer)


def _has(offer: Offer, where: dict[str, Value]) -> bool:
    return all(str(offer.attributes.get(column)) == str(value) for column, value in where.items())
