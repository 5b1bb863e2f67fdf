"""Rows as callers send them, V1 instances or V2 tensors: checked against the contract and typed for the encoder."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from offers.contract.column import Column
from offers.errors import RequestError, RequestTooLarge
from offers.model.encoder import Coded
from offers.wording import shown
from serving.protocol.fields import NumberBlock, NumberField, field_of
from serving.protocol.tensor import Tensor, row_count

MAX_ROWS = 20_000

Rows = Mapping[str, np.ndarray | Coded]
"""Typed columns of equal length: numbers and booleans as float64, NaN where missing; categories as `Coded`."""


class RequestSchema:
    """What a request's rows must hold: each of `columns`, nothing else, within the contract's limits.

    Parameters
    ----------
    columns : columns of a contract, categories, numbers or booleans, in the order of the result
    max_rows : the most rows that one request may hold
    """

    def __init__(self, columns: Iterable[Column], max_rows: int = MAX_ROWS) -> None:
        self.fields = {column.name: field_of(column) for column in columns}
        self.max_rows = max_rows
        self._block = NumberBlock([field for field in self.fields.values() if isinstance(field, NumberField)])

    def from_instances(self, instances: Any) -> Rows:
        """Check rows of the V1 protocol: a list of objects, one value per column, null where it is missing.

        Raises
        ------
        RequestTooLarge
            there are more than `max_rows`
        RequestError
            names the first field that is wrong, what was expected and what arrived
        """
        if not isinstance(instances, list):
            raise RequestError(f"'instances': expected a list of objects, got {shown(instances)}")
        self._check_length(len(instances), "'instances'")
        for row, instance in enumerate(instances, 1):
            if not isinstance(instance, dict):
                raise RequestError(f"row {row}: expected an object with a value per column, got {shown(instance)}")
            if instance.keys() != self.fields.keys():
                self._check_names(instance.keys(), f", row {row}")
        columns = {name: [row[name] for row in instances] for name in self.fields}
        numbers = self._block.of_json(columns)
        return {
            name: numbers[name] if name in numbers else field.of_json(columns[name])
            for name, field in self.fields.items()
        }

    def from_tensors(self, tensors: Sequence[Tensor]) -> Rows:
        """Check columns of the V2 protocol: a tensor of shape [n] or [n, 1] per column, in any order.

        Text has no null there, so an empty string stands for one, and like null and NaN it is accepted only where
        the contract says that the column may be missing.

        Raises
        ------
        RequestTooLarge
            there are more than `max_rows`
        RequestError
            names the first field that is wrong, what was expected and what arrived
        """
        by_name = named(tensors)
        if by_name.keys() != self.fields.keys():
            self._check_names(by_name.keys(), "")
        lengths = {name: row_count(tensor) for name, tensor in by_name.items()}
        n_rows = lengths[next(iter(self.fields))]
        self._check_length(n_rows, "the tensors")
        for name, length in lengths.items():
            if length != n_rows:
                other = next(iter(self.fields))
                expected = f"expected {n_rows} rows as column {other!r} has"
                raise RequestError(f"column {name!r}: {expected}, got {shown(length)}")
        numbers = self._block.of_tensors(by_name, n_rows)
        return {
            name: numbers[name] if name in numbers else field.of_tensor(by_name[name], n_rows)
            for name, field in self.fields.items()
        }

    def _check_length(self, n_rows: int, where: str) -> None:
        if n_rows > self.max_rows:
            raise RequestTooLarge(f"{where}: expected at most {self.max_rows} rows in a request, got {shown(n_rows)}")
        if n_rows == 0:
            raise RequestError(f"{where}: expected at least one row, got none")

    def _check_names(self, names: Collection[Any], where: str) -> None:
        expected = ", ".join(self.fields)
        for name in self.fields:
            if name not in names:
                raise RequestError(f"column {name!r}{where}: expected a value, but it is missing")
        strange = next(name for name in names if name not in self.fields)
        raise RequestError(f"column {shown(strange)}{where}: not an input of this model; expected {expected}")


def named(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Tensors by their names; raises RequestError where one stands twice."""
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) < len(tensors):
        [(twice, times)] = Counter(tensor.name for tensor in tensors).most_common(1)
        raise RequestError(f"column {shown(twice)}: expected one tensor, got {times}")
    return by_name
