"""What a caller asks of the ranker: instances, checked field by field, and joined with the offers of the policy."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from offers.contract import Column, Contract, Role
from offers.errors import RequestError, RequestTooLarge
from offers.features import Coded
from offers.policy import Pairs, Policy
from offers.requests import RequestSchema, shown

REQUIRED, OPTIONAL = ("customer_id", "customer", "context"), ("offers", "k", "as_of")


@dataclass(frozen=True)
class Question:
    """Customers who wait for a ranking, and the pairs to be scored for them.

    All lists have one entry per customer: `k` is None where the catalogue's holds, `as_of` is ISO 8601.
    """

    customer_ids: list[str]
    decision_ids: list[str]
    as_of: list[str]
    k: list[int | None]
    pairs: Pairs

    def __len__(self) -> int:
        return len(self.customer_ids)


class QuestionSchema:
    """What the instances of a request must hold."""

    def __init__(self, policy: Policy, contract: Contract, max_customers: int) -> None:
        self.policy = policy
        self.max_customers = max_customers
        self._columns = {column.name: column for column in contract.inputs if column.role != Role.OFFER}
        self._parts = {
            part: RequestSchema([c for c in self._columns.values() if c.role == role], max_customers)
            for part, role in (("customer", Role.CUSTOMER), ("context", Role.CONTEXT))
        }
        self._offers = {offer.id for offer in policy.offers}

    def read(self, payload: Mapping[str, Any]) -> Question:
        """Check the body of a V1 request.

        Raises
        ------
        RequestTooLarge
            there are more than `max_customers`
        RequestError
            names the first field that is wrong, what was expected and what arrived
        """
        instances = self._instances(payload)
        for row, instance in enumerate(instances, 1):
            self._check(instance, row)
        customer_ids = [instance["customer_id"] for instance in instances]
        _check_once(customer_ids)
        columns: dict[str, np.ndarray] = {}
        for part, schema in self._parts.items():
            rows = schema.from_instances([instance.get(part, {}) for instance in instances])
            columns |= {name: _plain(self._columns[name], values) for name, values in rows.items()}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Question(
            customer_ids,
            [uuid.uuid4().hex for _ in instances],
            [instance.get("as_of") or now for instance in instances],
            [instance.get("k") for instance in instances],
            self.policy.expand(columns, [instance.get("offers") for instance in instances]),
        )

    def _instances(self, payload: Mapping[str, Any]) -> list[Any]:
        for key in payload:
            if key != "instances":
                raise RequestError(f"the body: expected 'instances' alone, got {shown(key)} too")
        instances = payload.get("instances")
        if not isinstance(instances, list):
            got = f"got {shown(instances)}" if "instances" in payload else "but it is missing"
            raise RequestError(f"the body: expected a list of objects as 'instances', {got}")
        if not 1 <= len(instances) <= self.max_customers:
            kind = RequestTooLarge if instances else RequestError
            expected = f"expected 1 to {self.max_customers} customers in a request"
            raise kind(f"'instances': {expected}, got {len(instances) or 'none'}")
        return instances

    def _check(self, instance: Any, row: int) -> None:
        if not isinstance(instance, dict):
            raise RequestError(f"'instances', row {row}: expected an object, got {shown(instance)}")
        for key in instance:
            if key not in _FIELDS:
                expected = ", ".join(_FIELDS)
                raise RequestError(f"field {shown(key)}, row {row}: not a field of an instance; expected {expected}")
        for key, (fits, expected) in _FIELDS.items():
            if key not in instance and self._needs(key):
                raise RequestError(f"field {key!r}, row {row}: expected {expected}, but it is missing")
            if key in instance and not (fits(instance[key]) or (instance[key] is None and key in OPTIONAL)):
                raise RequestError(f"field {key!r}, row {row}: expected {expected}, got {shown(instance[key])}")
        for offer_id in instance.get("offers") or ():
            if offer_id not in self._offers:
                expected = ", ".join(sorted(self._offers))
                raise RequestError(f"field 'offers', row {row}: expected of {expected}, got {shown(offer_id)}")

    def _needs(self, key: str) -> bool:
        return key in REQUIRED and (key != "context" or bool(self._parts[key].fields))


def example(contract: Contract) -> dict[str, Any]:
    """A request about one made-up customer, typical of the contract."""
    values = {role: {c.name: _typical(c) for c in contract.inputs if c.role == role} for role in Role}
    return {
        "instances": [
            {"customer_id": "example-1", "customer": values[Role.CUSTOMER], "context": values[Role.CONTEXT], "k": 3}
        ]
    }


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 128 and value.isprintable()


def _is_instant(value: Any) -> bool:
    try:
        return isinstance(value, str) and value.isascii() and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "customer_id": (_is_id, "text of 1 to 128 printable characters"),
    "customer": (lambda value: isinstance(value, dict), "an object with a value per column"),
    "context": (lambda value: isinstance(value, dict), "an object with a value per column"),
    "offers": (
        lambda value: isinstance(value, list) and value != [] and all(isinstance(item, str) for item in value),
        "a list of ids of the catalogue, one at least",
    ),
    "k": (lambda value: type(value) is int and value >= 1, "a whole number of at least 1"),
    "as_of": (_is_instant, "a date or a time as ISO 8601 writes it"),
}


def _check_once(customer_ids: list[str]) -> None:
    seen: dict[str, int] = {}
    for row, customer_id in enumerate(customer_ids, 1):
        first = seen.setdefault(customer_id, row)
        if first != row:
            raise RequestError(
                f"field 'customer_id', row {row}: expected each customer once, got the one of row {first}"
            )


def _plain(column: Column, values: np.ndarray | Coded) -> np.ndarray:
    """A category as words with None where it is missing, as the policy takes it."""
    if not isinstance(values, Coded):
        return values
    places = np.where(np.isnan(values.places), len(column.values), values.places).astype(np.intp)
    return np.array([*column.values, None], object)[places]


def _typical(column: Column) -> Any:
    if isinstance(column.typical, dict):
        return max(column.typical, key=column.typical.__getitem__)
    if column.type == "category":
        return column.values[0]
    if column.type == "boolean":
        return False
    low, high = column.typical or (column.min or 0.0, column.max or column.min or 0.0)
    middle = round((low + high) / 2, 2)
    return round(middle) if column.type == "integer" else middle
