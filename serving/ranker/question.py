"""What a caller asks of the ranker: customers, checked field by field, and joined with the offers of the policy.

In V1 a customer is an object with `customer_id`, an object of columns as `customer` and one as `context`, and where
wanted `offers` (ids to choose from), `k` (places in the answer) and `as_of` (a date or time: the caller's own mark of
when, which the answer repeats).

In V2 each column of the contract that no offer sets is a tensor of shape [n], as the predictor takes it, and so are
the other fields: `customer_id` (BYTES), and where wanted `offers` (BYTES, ids with commas between them), `k` (INT64)
and `as_of` (BYTES). Text has no null there: an empty one of `offers` or `as_of` stands for none, and NaN does in `k`.

`explain` asks for the reasons in sentences: in V1 a field beside `instances`, in V2 a parameter of the request.
"""

import math
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.errors import RequestError, RequestTooLarge
from offers.model.encoder import Coded
from offers.policy.arbitration import Policy
from offers.policy.pairs import Pairs
from offers.wording import shown
from serving.protocol import payload as payloads
from serving.protocol.kserve import deserialize_bytes_tensor
from serving.protocol.rows import RequestSchema, Rows, named
from serving.protocol.tensor import Tensor

T = TypeVar("T")
EXPLAIN = "explain"
REQUIRED, OPTIONAL = ("customer_id", "customer", "context"), ("offers", "k", "as_of")
TENSORS = {"customer_id": "BYTES", "offers": "BYTES", "k": "INT64", "as_of": "BYTES"}
"""The tensors of a V2 request that are no columns, and the datatypes that they are declared with."""


@dataclass(frozen=True)
class Question:
    """Customers who wait for a ranking, and the pairs to be scored for them.

    All lists have one entry per customer: `k` is None where the catalogue's holds, `as_of` is ISO 8601, `asked` are
    the offers to choose from, None for all. `rows` are the columns as checked. `explain` asks for reasons in sentences.
    """

    customer_ids: list[str]
    decision_ids: list[str]
    as_of: list[str]
    k: list[int | None]
    asked: list[Sequence[str] | None]
    rows: Rows
    pairs: Pairs
    explain: bool = False

    def __len__(self) -> int:
        return len(self.customer_ids)

    def part(self, customers: np.ndarray, policy: Policy) -> "Question":
        """The question of some customers, put to a policy; offers that it does not have are not asked of it."""
        there = {offer.id for offer in policy.offers}

        def of(values: list[T]) -> list[T]:
            return [values[row] for row in customers]

        offer_ids: list[Sequence[str] | None] = [
            None if ids is None else [one for one in ids if one in there] for ids in of(self.asked)
        ]
        rows = {name: _rows(values, customers) for name, values in self.rows.items()}
        own = (of(self.customer_ids), of(self.decision_ids), of(self.as_of), of(self.k))
        return Question(*own, offer_ids, rows, policy.expand(rows, offer_ids), self.explain)


class QuestionSchema:
    """What a request must hold."""

    def __init__(self, policy: Policy, contract: Contract, max_customers: int) -> None:
        self.policy = policy
        self.max_customers = max_customers
        self._columns = [column for column in contract.inputs if column.role != Role.OFFER]
        self._parts = {
            part: RequestSchema([column for column in self._columns if column.role == role], max_customers)
            for part, role in (("customer", Role.CUSTOMER), ("context", Role.CONTEXT))
        }
        self._whole = RequestSchema(self._columns, max_customers)
        self._offers = {offer.id for offer in policy.offers}

    def tensors(self) -> list[dict[str, Any]]:
        """The inputs of a V2 request, as metadata tells of them."""
        ours = [
            {"name": name, "datatype": kind, "shape": [-1], "parameters": {"optional": name in OPTIONAL}}
            for name, kind in TENSORS.items()
        ]
        return [ours[0], *map(payloads.described, self._columns), *ours[1:]]

    def read(self, payload: dict[str, Any]) -> Question:
        """Check the body of a V1 request.

        Raises
        ------
        RequestTooLarge
            there are more than `max_customers`
        RequestError
            names the first field that is wrong, what was expected and what arrived
        """
        instances, explain = self._instances(payload), payload.get(EXPLAIN, False)
        if not isinstance(explain, bool):
            raise RequestError(f"{EXPLAIN!r}: expected true or false, got {shown(explain)}")
        for row, instance in enumerate(instances, 1):
            self._check(instance, row)
        rows: dict[str, np.ndarray | Coded] = {}
        for part, schema in self._parts.items():
            rows |= schema.from_instances([instance.get(part, {}) for instance in instances])
        return self._question({key: [instance.get(key) for instance in instances] for key in TENSORS}, rows, explain)

    def read_tensors(self, tensors: Sequence[Tensor], explain: bool = False) -> Question:
        """Check the tensors of a V2 request; raises what `read` does."""
        ours = named([tensor for tensor in tensors if tensor.name in TENSORS])
        if "customer_id" not in ours:
            raise RequestError("column 'customer_id': expected a value, but it is missing")
        rows = self._whole.from_tensors([tensor for tensor in tensors if tensor.name not in TENSORS])
        n_rows = len(next(iter(rows.values())))
        fields: dict[str, list[Any]] = {key: [None] * n_rows for key in TENSORS}
        fields |= {name: _values(tensor, n_rows) for name, tensor in ours.items()}
        for key, values in fields.items():
            for row, value in enumerate(values, 1):
                self._check_field(key, value, row)
        return self._question(fields, rows, explain)

    def _question(self, fields: Mapping[str, list[Any]], rows: Rows, explain: bool) -> Question:
        customer_ids = fields["customer_id"]
        _check_once(customer_ids)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Question(
            customer_ids,
            [uuid.uuid4().hex for _ in customer_ids],
            [moment or now for moment in fields["as_of"]],
            [None if k is None else int(k) for k in fields["k"]],
            fields["offers"],
            rows,
            self.policy.expand(rows, fields["offers"]),
            explain,
        )

    def _instances(self, payload: dict[str, Any]) -> list[Any]:
        instances = payloads.instances(payload, EXPLAIN)
        if not isinstance(instances, list):
            raise RequestError(f"'instances': expected a list of objects, got {shown(instances)}")
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
        for key, (_, expected) in _FIELDS.items():
            if key in instance:
                self._check_field(key, instance[key], row)
            elif self._needs(key):
                raise RequestError(f"field {key!r}, row {row}: expected {expected}, but it is missing")

    def _check_field(self, key: str, value: Any, row: int) -> None:
        fits, expected = _FIELDS[key]
        if value is None and key in OPTIONAL:
            return
        if not fits(value):
            arrived = "an empty list" if value == [] else shown(value)
            raise RequestError(f"field {key!r}, row {row}: expected {expected}, got {arrived}")
        if key == "offers":
            for offer_id in value:
                if not isinstance(offer_id, str) or offer_id not in self._offers:
                    names = ", ".join(sorted(self._offers))
                    raise RequestError(f"field 'offers', row {row}: expected of {names}, got {shown(offer_id)}")

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


def _rows(values: np.ndarray | Coded, rows: np.ndarray) -> np.ndarray | Coded:
    return Coded(values.places[rows]) if isinstance(values, Coded) else values[rows]


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
        lambda value: isinstance(value, list) and value != [],
        "a list of ids of the catalogue, one at least",
    ),
    "k": (
        lambda value: type(value) in (int, float) and value >= 1 and value % 1 == 0,
        "a whole number of at least 1",
    ),
    "as_of": (_is_instant, "a date or a time as ISO 8601 writes it"),
}


_PLACES = RequestSchema([Column(name="k", role=Role.CONTEXT, type="integer", min=1, nullable=True)])


def _values(tensor: Tensor, n_rows: int) -> list[Any]:
    """What a tensor of ours holds for each customer, None where it says nothing, as the fields of V1 have it."""
    if tensor.name == "k":
        numbers = np.asarray(_PLACES.from_tensors([tensor])["k"]).tolist()
        values: list[Any] = [None if math.isnan(number) else int(number) for number in numbers]
    else:
        values = _texts(tensor)
    if len(values) != n_rows or list(tensor.shape) not in ([n_rows], [n_rows, 1]):
        shape = str(list(tensor.shape))[:60]
        raise RequestError(
            f"column {tensor.name!r}: expected {n_rows} rows as the columns have, got {len(values)} of shape {shape}"
        )
    if tensor.name in OPTIONAL:
        values = [None if value == "" else value for value in values]
    if tensor.name == "offers":
        values = [[word.strip() for word in value.split(",")] if isinstance(value, str) else value for value in values]
    return values


def _texts(tensor: Tensor) -> list[Any]:
    """Words of a tensor; bytes that are no UTF-8 become text that no field takes."""
    if tensor.datatype != "BYTES":
        raise RequestError(f"column {tensor.name!r}: expected datatype BYTES, got {shown(tensor.datatype)}")
    try:
        words = list(tensor.values or ()) if tensor.raw is None else deserialize_bytes_tensor(tensor.raw).tolist()
    except struct.error:
        expected = "expected text with 4-byte lengths, got one that ends in mid-word"
        raise RequestError(f"column {tensor.name!r}: {expected}") from None
    if len(tensor.shape) == 2:
        words = [word[0] if isinstance(word, list) and len(word) == 1 else word for word in words]
    return [word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else word for word in words]


def _check_once(customer_ids: list[str]) -> None:
    first_places: dict[str, int] = {}
    for row, customer_id in enumerate(customer_ids, 1):
        first = first_places.setdefault(customer_id, row)
        if first != row:
            raise RequestError(
                f"field 'customer_id', row {row}: expected each customer once, got the one of row {first}"
            )


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
