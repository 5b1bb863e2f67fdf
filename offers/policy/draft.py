"""A first catalogue for people to change: its offers are combinations of values of the contract's offer columns."""

from collections.abc import Iterator
from itertools import islice, product
from typing import Any

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.contract.values import limits
from offers.yaml_file import flow

SCHEMA = "catalogue.schema.json"
"""The file beside a drafted catalogue by which editors check it."""
_MOST_OFFERS = 12
_VALUE, _COST = 100, 3
_ADULT = 18


def catalogue_text(contract: Contract) -> str:
    """Write a catalogue of at most a dozen offers, which 'offers policy check' accepts."""
    settable = [column for column in contract.columns if column.role == Role.OFFER]
    combinations = list(islice(product(*map(_choices, settable)), _MOST_OFFERS))
    offers = [dict(zip((column.name for column in settable), values, strict=True)) for values in combinations]
    lines = [
        f"# yaml-language-server: $schema={SCHEMA}",
        "# A first draft: offers, values and costs are made up. docs/catalogue.md explains every key.",
        f"name: {contract.name[:57]}-offers",
        f"contract: {contract.name}",
        *_eligibility(contract),
        "families:",
        "  - {name: all, limit: 3}  # offers of one kind: at most so many of them in one answer",
        "offers:  # value: margin of an acceptance in EUR; cost: of a contact",
        *(f"  - {flow(_offer(place, attributes))}" for place, attributes in enumerate(offers, 1)),
        "policy: {k: 3}  # places in an answer",
        "",
    ]
    return "\n".join(lines)


def _choices(column: Column) -> list[Any]:
    """List values that an offer may have in a column."""
    if column.type == "category":
        return list(column.values)
    if column.type == "boolean":
        return [False, True]
    low, high = limits(column)
    low, high = (low if column.min is not None else 0.0, high if column.max is not None else max(low, 0.0) + 1)
    middle = (low + high) / 2
    return [round(middle) if column.type == "integer" and low <= round(middle) <= high else middle]


def _offer(place: int, attributes: dict[str, Any]) -> dict[str, Any]:
    text = ", ".join(f"{name} {value}" for name, value in attributes.items())
    title = f"Offer {place}: {text}" if text else f"Offer {place}"
    offer: dict[str, Any] = {"id": f"offer-{place}", "title": title, "family": "all"}
    return offer | ({"attributes": attributes} if attributes else {}) | {"value": _VALUE, "cost": _COST}


def _eligibility(contract: Contract) -> Iterator[str]:
    age = next((column for column in contract.inputs if column.name.lower() == "age" and column.is_numeric), None)
    if age is not None and limits(age)[0] < _ADULT < limits(age)[1]:
        yield "eligibility:"
        rule = {"reason": f"AGE_BELOW_{_ADULT}", "column": age.name, "at_least": _ADULT}
        why = {"justification": "minors can make no such contract"} if age in contract.protected else {}
        yield f"  - {flow(rule | why)}  # a guess"
