"""Rows as callers send them, V1 instances or V2 tensors: checked against the contract and typed for the encoder."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from offers.contract.contract import Column
from offers.errors import RequestError, RequestTooLarge
from offers.model.encoder import Coded

MAX_ROWS = 20_000
_LARGEST = float(np.finfo(np.float32).max)

Rows = Mapping[str, np.ndarray | Coded]
"""Typed columns of equal length: numbers and booleans as float64, NaN where missing; categories as `Coded`."""

NUMBERS: dict[str, np.dtype[Any]] = {
    "FP64": np.dtype("<f8"),
    "FP32": np.dtype("<f4"),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (64, 32, 16, 8)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (64, 32, 16, 8)},
}
"""The V2 protocol's numeric datatypes that a column may come in, and how NumPy reads their raw bytes."""


class Tensor(NamedTuple):
    """A column in the V2 protocol: `raw` holds little-endian bytes (text with 4-byte lengths), else `values` do."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: Sequence[Any] | None = None
    raw: bytes | None = None


class RequestSchema:
    """What a request's rows must hold: each of `columns`, nothing else, within the contract's limits.

    Parameters
    ----------
    columns : columns of a contract, categories, numbers or booleans, in the order of the result
    max_rows : the most rows that one request may hold
    """

    def __init__(self, columns: Iterable[Column], max_rows: int = MAX_ROWS) -> None:
        self.fields = {column.name: _field(column) for column in columns}
        self.max_rows = max_rows
        self._block = _Block([field for field in self.fields.values() if isinstance(field, _Number)])

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
        lengths = {name: _length(tensor) for name, tensor in by_name.items()}
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


def datatype(column: Column) -> str:
    """The V2 datatype that a column is declared with; others that hold its values are accepted too."""
    if column.type == "category":
        return "BYTES"
    if column.type == "boolean":
        return "FP64" if column.may_be_missing else "BOOL"
    return "FP64" if column.type == "number" or column.may_be_missing else "INT64"


def shown(value: Any) -> str:
    """A value as JSON writes it, cut to a length that fits a sentence."""
    if isinstance(value, str):
        return repr(value[:60] + "…" if len(value) > 60 else value)
    if isinstance(value, bytes):
        return shown(value.decode("utf-8", "backslashreplace"))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return _shown_float(value) if isinstance(value, float) else str(value)[:60]


def _shown_float(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.15g}"
    return text if "." in text or "e" in text else f"{text}.0"


class _Field(Protocol):
    column: Column

    def of_json(self, values: list[Any]) -> np.ndarray | Coded: ...

    def of_tensor(self, tensor: Tensor, n_rows: int) -> np.ndarray | Coded: ...


class _Number:
    """A number, a whole number, or a boolean, which is 0 or 1."""

    def __init__(self, column: Column) -> None:
        self.column = column
        low, high = (0.0, 1.0) if column.type == "boolean" else (column.min, column.max)
        self.low = -_LARGEST if low is None else max(low, -_LARGEST)
        self.high = _LARGEST if high is None else min(high, _LARGEST)
        self.whole = column.type != "number"
        self.types = {int, float} | ({bool} if column.type == "boolean" else set())
        self.types |= {type(None)} if column.may_be_missing else set()
        numbers = [_number(token) for token in column.missing]
        self.tokens = np.array([number for number in numbers if number is not None])
        self.words = {token for token, number in zip(column.missing, numbers, strict=True) if number is None}

    def of_json(self, values: list[Any]) -> np.ndarray:
        if not self.types.issuperset(map(type, values)):
            values = [None if isinstance(value, str) and value in self.words else value for value in values]
            for row, value in enumerate(values):
                if type(value) not in self.types:
                    raise self._error(row, self._kind, value)
        return self._checked(self._array(values, NUMBERS["FP64"]))

    def of_tensor(self, tensor: Tensor, n_rows: int) -> np.ndarray:
        allowed = (*(["BOOL"] if self.column.type == "boolean" else []), *NUMBERS)
        if tensor.datatype not in allowed:
            raise _wrong_datatype(self.column, ", ".join(allowed), tensor)
        dtype = NUMBERS["UINT8" if tensor.datatype == "BOOL" else tensor.datatype]
        if tensor.raw is not None:
            if len(tensor.raw) != n_rows * dtype.itemsize:
                raise RequestError(
                    f"column {tensor.name!r}: expected {n_rows * dtype.itemsize} bytes for {n_rows} values of"
                    f" {tensor.datatype}, got {len(tensor.raw)}"
                )
            return self._checked(np.frombuffer(tensor.raw, dtype))
        values, types = _flat(tensor, n_rows), _JSON_TYPES[tensor.datatype[0]]
        types = types | {type(None)} if self.column.may_be_missing else types
        for row, value in enumerate(values):
            if type(value) not in types:
                raise self._error(row, tensor.datatype, value)
        return self._checked(self._array(values, NUMBERS["FP64"] if None in values else dtype))

    @property
    def _kind(self) -> str:
        if self.column.type == "boolean":
            return "true, false, 0 or 1"
        return "a whole number" if self.whole else "a number"

    def _array(self, values: Sequence[Any], dtype: np.dtype[Any]) -> np.ndarray:
        try:
            with np.errstate(over="ignore"):
                return np.array(values, dtype)
        except OverflowError:
            low, high = -_LARGEST, _LARGEST
            if dtype.kind in "iu":
                low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
            row = next(row for row, value in enumerate(values) if value is not None and not low <= value <= high)
            raise self._error(row, f"{low:g} to {high:g}", values[row]) from None

    def _checked(self, values: np.ndarray) -> np.ndarray:
        fine = (values >= self.low) & (values <= self.high)
        if self.whole and values.dtype.kind == "f":
            fine &= np.rint(values) == values
        if not self.column.may_be_missing:
            if not fine.all():
                raise self._out_of_range(values, int(np.argmin(fine)))
            return values.astype(np.float64)
        absent = np.isnan(values)
        if self.tokens.size:
            absent |= np.isin(values, self.tokens)
        fine |= absent
        if not fine.all():
            raise self._out_of_range(values, int(np.argmin(fine)))
        typed = values.astype(np.float64)
        typed[absent] = np.nan
        return typed

    def _out_of_range(self, values: np.ndarray, row: int) -> RequestError:
        value = float(values[row])
        if not math.isfinite(value):
            return self._error(row, self._kind, value)
        if abs(value) < 1e15 and value.is_integer():
            value = int(value)
        if self.column.type == "boolean":
            return self._error(row, "0 or 1", value)
        if value < self.low:
            return self._error(row, f"at least {self.low:g}", value)
        return self._error(row, f"at most {self.high:g}" if value > self.high else self._kind, value)

    def _error(self, row: int, expected: str, got: Any) -> RequestError:
        return RequestError(f"column {self.column.name!r}, row {row + 1}: expected {expected}, got {shown(got)}")


class _Block:
    """All columns of numbers in one array: so few rows as a request has are checked faster than column by column.

    What it returns is empty unless all of them are plain and right: else each column is to tell what is wrong.
    """

    def __init__(self, columns: Sequence[_Number]) -> None:
        self.columns = {number.column.name: number for number in columns}
        self.low, self.high = (np.array([[getattr(number, key)] for number in columns]) for key in ("low", "high"))
        self.fractions = np.array([[not number.whole] for number in columns])
        self.nullable = np.array([[number.column.may_be_missing] for number in columns])
        self.tokens = [(place, number.tokens[:, None]) for place, number in enumerate(columns) if number.tokens.size]

    def of_json(self, columns: Mapping[str, list[Any]]) -> dict[str, np.ndarray]:
        if not all(number.types.issuperset(map(type, columns[name])) for name, number in self.columns.items()):
            return {}
        try:
            return self._checked(np.array([columns[name] for name in self.columns], np.float64))
        except OverflowError:
            return {}

    def of_tensors(self, tensors: Mapping[str, Tensor], n_rows: int) -> dict[str, np.ndarray]:
        found = [tensors[name] for name in self.columns]
        raws = [tensor.raw for tensor in found if tensor.raw is not None and tensor.datatype == "FP64"]
        if len(raws) < len(found) or any(len(raw) != 8 * n_rows for raw in raws):
            return {}
        return self._checked(np.frombuffer(b"".join(raws), NUMBERS["FP64"]).reshape(len(raws), n_rows))

    def _checked(self, values: np.ndarray) -> dict[str, np.ndarray]:
        if not self.columns:
            return {}
        absent = np.isnan(values)
        for place, tokens in self.tokens:
            absent[place] |= (values[place] == tokens).any(axis=0)
        absent &= self.nullable
        fine = (values >= self.low) & (values <= self.high) & (self.fractions | (np.rint(values) == values))
        if not (fine | absent).all():
            return {}
        return dict(zip(self.columns, np.where(absent, np.nan, values), strict=True))


class _Category:
    """One of the contract's words."""

    def __init__(self, column: Column) -> None:
        self.column = column
        words: dict[str, float] = {word: float(place) for place, word in enumerate(column.values)}
        words |= dict.fromkeys(column.missing, math.nan)
        self.words: dict[Any, float] = {**words, **({None: math.nan} if column.may_be_missing else {})}
        if column.may_be_missing:
            words.setdefault("", math.nan)
        encoded = {word.encode(): place for word, place in words.items()}
        self.tensor_words: dict[Any, float] = {**self.words, **words, **encoded}
        self.framed = {len(word).to_bytes(4, "little") + word: place for word, place in encoded.items()}
        self.runs = re.compile(b"|".join(b"(?:%s)+" % re.escape(frame) for frame in self.framed), re.DOTALL)

    def of_json(self, values: list[Any]) -> Coded:
        return self._coded(values, self.words)

    def of_tensor(self, tensor: Tensor, n_rows: int) -> Coded:
        if tensor.datatype != "BYTES":
            raise _wrong_datatype(self.column, "BYTES", tensor)
        if tensor.raw is None:
            return self._coded(_flat(tensor, n_rows), self.tensor_words)
        runs = self.runs.findall(tensor.raw)
        frames = [run[: 4 + int.from_bytes(run[:4], "little")] for run in runs]
        counts = [len(run) // len(frame) for run, frame in zip(runs, frames, strict=True)]
        # Frames that leave no byte over are what reading length by length would give: a length fixes its word.
        if sum(counts) == n_rows and sum(map(len, runs)) == len(tensor.raw):
            return Coded(np.repeat(np.array([self.framed[frame] for frame in frames], np.float32), counts))
        return self._coded(_unframed(tensor.raw, n_rows, self.column.name), self.tensor_words)

    def _coded(self, values: Sequence[Any], words: Mapping[Any, float]) -> Coded:
        if not _TEXT.issuperset(map(type, values)):
            row = next(row for row, value in enumerate(values) if type(value) not in _TEXT)
            raise self._error(row, values[row])
        places = [words.get(value) for value in values]
        if None in places and self.column.unknown == "reject":
            row = places.index(None)
            raise self._error(row, values[row])
        return Coded(np.array(places, np.float32))

    def _error(self, row: int, got: Any) -> RequestError:
        expected = f"one of {', '.join(self.column.values)}"
        return RequestError(f"column {self.column.name!r}, row {row + 1}: expected {expected}, got {shown(got)}")


_TEXT = {str, bytes, type(None)}
_JSON_TYPES: dict[str, set[type]] = {"F": {int, float}, "I": {int}, "U": {int}, "B": {bool, int}}


def _field(column: Column) -> _Field:
    return _Category(column) if column.type == "category" else _Number(column)


def _number(token: str) -> float | None:
    try:
        return float(token)
    except ValueError:
        return None


def _wrong_datatype(column: Column, expected: str, tensor: Tensor) -> RequestError:
    return RequestError(f"column {column.name!r}: expected datatype {expected}, got {shown(tensor.datatype)}")


def _length(tensor: Tensor) -> int:
    shape = list(tensor.shape)
    if len(shape) == 1 and type(shape[0]) is int and shape[0] >= 0:
        return shape[0]
    whole = all(type(length) is int and length >= 0 for length in shape)
    if not whole or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise RequestError(f"column {tensor.name!r}: expected shape [n] or [n, 1], got {str(shape)[:60]}")
    return int(shape[0])


def _flat(tensor: Tensor, n_rows: int) -> list[Any]:
    values = list(tensor.values or ())
    if len(tensor.shape) == 2 and all(isinstance(value, list) and len(value) == 1 for value in values):
        values = [value[0] for value in values]
    if len(values) != n_rows:
        raise RequestError(
            f"column {tensor.name!r}: expected {n_rows} values as shape {list(tensor.shape)} says, got {len(values)}"
        )
    return values


def _unframed(raw: bytes, n_rows: int, name: str) -> list[bytes]:
    """Read text that stands with 4-byte lengths before each word."""
    words, start = [], 0
    while start < len(raw):
        end = start + 4 + int.from_bytes(raw[start : start + 4], "little")
        if end > len(raw) or start + 4 > len(raw):
            raise RequestError(f"column {name!r}: expected text with 4-byte lengths, got one that ends in mid-word")
        words.append(raw[start + 4 : end])
        start = end
    if len(words) != n_rows:
        raise RequestError(f"column {name!r}: expected {n_rows} words as its shape says, got {len(words)}")
    return words
