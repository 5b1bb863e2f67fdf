"""A batch of customers, typed by the contract: ids, and the columns that the rules and the model need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.contract.sections import CsvFormat
from offers.contract.values import float64_of, limits, numbers_among, shown_number, word
from offers.data import cells
from offers.errors import DataError
from offers.evaluation.segments import groups
from offers.model.encoder import Coded
from offers.wording import shown, some


@dataclass(frozen=True)
class Customers:
    """Ids as text, and columns as `Policy.expand` takes them: categories as `Coded`, all others as float64."""

    ids: pa.Array
    columns: dict[str, Coded | np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    def groups(self, column: Column) -> pa.Array:
        """Name each customer's group in a protected column, as evaluations name it."""
        values = self.columns[column.name]
        if isinstance(values, Coded):
            places = np.where(np.isnan(values.places), len(column.values), values.places).astype(int)
            return pa.array([*column.values, "missing"], pa.string()).take(pa.array(places))
        if column.type == "boolean":
            return pa.array(np.array(["False", "True", "missing"])[np.where(np.isnan(values), 2, values).astype(int)])
        return pa.array(groups(pd.Series(values), column), pa.string())


class CustomerSchema:
    """The columns that a table of customers must have: an id, and the contract's customer and context columns.

    Parameters
    ----------
    key : the column with the customer's id

    Attributes
    ----------
    names : the columns that are read; others are ignored
    protected : those of them that the contract protects against discrimination
    """

    def __init__(self, contract: Contract, key: str) -> None:
        self.contract, self.key = contract, key
        self._columns = [column for column in contract.inputs if column.role != Role.OFFER]
        self.protected = tuple(column for column in contract.protected if column in self._columns)
        self.names = list(dict.fromkeys([key, *(column.name for column in self._columns)]))

    def choose(self, names: Sequence[str], origin: str) -> list[str]:
        """Choose the columns to read; raises `DataError` where one is missing or occurs twice."""
        if twice := [name for name in self.names if list(names).count(name) > 1]:
            raise DataError(f"{origin}: expected each column once, got {some(twice)} twice")
        self._refuse_without(self.names, names, origin)
        return self.names

    def check_file(self, names: Sequence[str], origin: str) -> None:
        """Raise `DataError` where a file of a table lacks a column whose cells may not be empty."""
        optional = {column.name for column in self._columns if column.may_be_missing}
        self._refuse_without([name for name in self.names if name not in optional], names, origin)

    def _refuse_without(self, needed: Sequence[str], names: Sequence[str], origin: str) -> None:
        if missing := [name for name in needed if name not in names]:
            hint = f"; --customer names the column with their ids, now {self.key!r}" if self.key in missing else ""
            raise DataError(
                f"{origin}: expected the customers' columns of contract {self.contract.name}; missing:"
                f" {some(missing)}{hint}"
            )

    def ids(self, batch: pa.RecordBatch, first_row: int = 1) -> pa.Array:
        """The customers' ids as text; raises `DataError` where one is missing."""
        ids = _text(batch.column(self.key), self.key)
        _refuse(self.key, "a customer's id", ids, _mask(pc.is_null(ids)), first_row)
        return ids

    def typed(self, batch: pa.RecordBatch, first_row: int = 1) -> Customers:
        """Type and check a batch.

        Parameters
        ----------
        batch : typed columns, or text as the contract's files have it
        first_row : the number of its first row, for messages

        Raises
        ------
        DataError
            a value breaks the contract, or an id is missing: names column and row
        """
        ids = self.ids(batch, first_row)
        form = self.contract.source.format
        columns = {c.name: _column(batch.column(c.name), c, form, first_row) for c in self._columns}
        return Customers(ids, columns)


def _column(values: pa.Array, column: Column, form: CsvFormat, first_row: int) -> Coded | np.ndarray:
    if column.type == "category":
        return Coded(_places(values, column, form, first_row))
    return _numbers(values, column, form, first_row)


def _places(values: pa.Array, column: Column, form: CsvFormat, first_row: int) -> np.ndarray:
    words = _words(values, column).dictionary_encode()
    table = words.dictionary
    places = pc.index_in(table, pa.array(column.values, pa.string()))
    absences = [*column.missing, *(form.missing if _is_text(values.type) else ())]
    absent = _mask(pc.is_in(table, pa.array(absences, pa.string())))
    codes = np.append(np.where(absent, np.nan, _floats(places)), np.nan)
    unknown = np.append(np.isnan(codes[:-1]) & ~absent & (column.unknown == "reject"), False)
    at = words.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    _refuse(column.name, f"one of {', '.join(column.values)}", values, unknown[at], first_row)
    found = np.asarray(codes[at])
    if not column.may_be_missing:
        _refuse(column.name, "a value", values, np.isnan(found), first_row)
    return found


def _numbers(values: pa.Array, column: Column, form: CsvFormat, first_row: int) -> np.ndarray:
    if column.type == "boolean" and pa.types.is_binary(values.type):
        values = _words(values, column)
    if _is_text(values.type):
        numbers, wrong = _parsed(values, column, form)
    elif _is_number(values.type) or (pa.types.is_boolean(values.type) and column.type == "boolean"):
        is_short = pa.types.is_float32(values.type) or pa.types.is_float16(values.type)
        numbers = float64_of(values.to_numpy(zero_copy_only=False), column) if is_short else _floats(values)
        wrong = np.isinf(numbers)
        numbers[np.isin(numbers, numbers_among(column.missing))] = np.nan
    else:
        raise DataError(f"column '{column.name}': expected numbers, got {values.type}")
    _refuse(column.name, "yes or no" if column.type == "boolean" else "a number", values, wrong, first_row)
    for expected, fault in _faults(column, numbers):
        _refuse(column.name, expected, values, fault, first_row)
    return numbers


def _parsed(values: pa.Array, column: Column, form: CsvFormat) -> tuple[np.ndarray, np.ndarray]:
    """Parse text cells by the rules of files, each different text once, and mark the cells that hold no number."""
    words = _text(values, column.name).dictionary_encode()
    table = pd.Series(words.dictionary.to_pylist(), dtype="string[pyarrow]")
    result = cells.read(table, column, form)
    codes = np.append(result.values.to_numpy(np.float64), np.nan)
    codes[result.wrong] = np.inf
    numbers = codes[words.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return numbers, np.isinf(numbers)


def _faults(column: Column, found: np.ndarray) -> list[tuple[str, np.ndarray]]:
    if column.type == "boolean":
        faults = [("yes or no", (found != 0) & (found != 1) & ~np.isnan(found))]
    else:
        low, high = limits(column)
        faults = [(f"at least {shown_number(low)}", found < low), (f"at most {shown_number(high)}", found > high)]
    if column.type == "integer":
        faults.append(("a whole number", (np.rint(found) != found) & ~np.isnan(found)))
    if not column.may_be_missing:
        faults.append(("a value", np.isnan(found)))
    return faults


def _refuse(name: str, expected: str, values: pa.Array, wrong: np.ndarray, first_row: int) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        others = f" ({int(wrong.sum())} rows of this batch)" if wrong.sum() > 1 else ""
        arrived = values[row].as_py()
        raise DataError(
            f"column '{name}', row {first_row + row}: expected {expected}, got"
            f" {'nothing' if arrived is None else shown(arrived)}{others}"
        )


def _text(values: pa.Array, name: str) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if _is_text(values.type) or pa.types.is_integer(values.type):
        return values.cast(pa.string())
    raise DataError(f"column '{name}': expected text, got {values.type}")


def _words(values: pa.Array, column: Column) -> pa.Array:
    """Write the values of a category as a CSV file would hold them."""
    if _is_text(values.type) or pa.types.is_integer(values.type):
        return _text(values, column.name)
    found = [None if value is None else word(value, column.values) for value in values.to_pylist()]
    return pa.array(found, pa.string())


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _floats(values: pa.Array) -> np.ndarray:
    # Large whole numbers are rounded here, and refused by their limits.
    return np.array(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _mask(values: pa.Array) -> np.ndarray:
    return np.asarray(values.to_numpy(zero_copy_only=False), bool)
