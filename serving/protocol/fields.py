"""One column of a request: its values from JSON or from a tensor, checked and typed."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from offers.contract.column import Column
from offers.contract.values import LARGEST, as_number, boolean_words, limits, numbers_among, shown_number, word
from offers.errors import RequestError
from offers.model.encoder import Coded
from offers.wording import shown
from serving.protocol.tensor import JSON_TYPES, NUMBERS, Tensor, flat, texts, wrong_datatype


class Field(Protocol):
    column: Column

    def of_json(self, values: list[Any]) -> np.ndarray | Coded: ...

    def of_tensor(self, tensor: Tensor, n_rows: int) -> np.ndarray | Coded: ...


class NumberField:
    """A number, a whole number, or a boolean, which is 0 or 1."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.low, self.high = limits(column)
        self.whole = column.type != "number"
        self.types = {int, float} | ({bool} if column.type == "boolean" else set())
        self.types |= {type(None)} if column.may_be_missing else set()
        self.tokens = np.array(numbers_among(column.missing))
        self.missing = {token for token in column.missing if as_number(token) is None}
        self.meanings = boolean_words(column) if column.type == "boolean" else {}

    def of_json(self, values: list[Any]) -> np.ndarray:
        if not self.types.issuperset(map(type, values)):
            values = [self._meaning(value) if isinstance(value, str) else value for value in values]
            for row, value in enumerate(values):
                if type(value) not in self.types:
                    raise self._error(row, self._kind, value)
        return self._checked(self._array(values, NUMBERS["FP64"]))

    def _meaning(self, text: str) -> str | bool | None:
        """What a word of the contract stands for; other text stays what it is, to be refused."""
        return None if text in self.missing else self.meanings.get(text.lower(), text)

    def of_tensor(self, tensor: Tensor, n_rows: int) -> np.ndarray:
        allowed = (*(["BOOL", "BYTES"] if self.column.type == "boolean" else []), *NUMBERS)
        if tensor.datatype == "BYTES" and self.column.type == "boolean":
            return self.of_json([_text(word, self.column) for word in texts(tensor, n_rows)])
        if tensor.datatype not in allowed:
            raise wrong_datatype(self.column, ", ".join(allowed), tensor)
        dtype = NUMBERS["UINT8" if tensor.datatype == "BOOL" else tensor.datatype]
        if tensor.raw is not None:
            if len(tensor.raw) != n_rows * dtype.itemsize:
                raise RequestError(
                    f"column {tensor.name!r}: expected {n_rows * dtype.itemsize} bytes for {n_rows} values of"
                    f" {tensor.datatype}, got {len(tensor.raw)}"
                )
            return self._checked(np.frombuffer(tensor.raw, dtype))
        values, types = flat(tensor, n_rows), JSON_TYPES[tensor.datatype[0]]
        types = types | {type(None)} if self.column.may_be_missing else types
        for row, value in enumerate(values):
            if type(value) not in types:
                raise self._error(row, tensor.datatype, value)
        return self._checked(self._array(values, NUMBERS["FP64"] if None in values else dtype))

    @property
    def _kind(self) -> str:
        if self.column.type == "boolean":
            return "true, false, yes, no, 0 or 1"
        return "a whole number" if self.whole else "a number"

    def _array(self, values: Sequence[Any], dtype: np.dtype[Any]) -> np.ndarray:
        try:
            with np.errstate(over="ignore"):
                return np.array(values, dtype)
        except OverflowError:
            low, high = -LARGEST, LARGEST
            if dtype.kind in "iu":
                low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
            row = next(row for row, value in enumerate(values) if value is not None and not low <= value <= high)
            raise self._error(row, f"{shown_number(low)} to {shown_number(high)}", values[row]) from None

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
            return self._error(row, f"at least {shown_number(self.low)}", value)
        return self._error(row, f"at most {shown_number(self.high)}" if value > self.high else self._kind, value)

    def _error(self, row: int, expected: str, arrived: Any) -> RequestError:
        return RequestError(f"column {self.column.name!r}, row {row + 1}: expected {expected}, got {shown(arrived)}")


class NumberBlock:
    """Fast path: checks all numeric columns as one array, which beats checking column by column for few rows.

    Returns {} as soon as anything is unusual; the column checkers then find and name the fault.
    """

    def __init__(self, columns: Sequence[NumberField]) -> None:
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
        block = [tensors[name] for name in self.columns]
        raws = [tensor.raw for tensor in block if tensor.raw is not None and tensor.datatype == "FP64"]
        if len(raws) < len(block) or any(len(raw) != 8 * n_rows for raw in raws):
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


class CategoryField:
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
        if not _TEXT.issuperset(map(type, values)):
            values = [_worded(value, self.column) for value in values]
        return self._coded(values, self.words)

    def of_tensor(self, tensor: Tensor, n_rows: int) -> Coded:
        if tensor.datatype != "BYTES":
            raise wrong_datatype(self.column, "BYTES", tensor)
        if tensor.raw is None:
            return self._coded(texts(tensor, n_rows), self.tensor_words)
        runs = self.runs.findall(tensor.raw)
        frames = [run[: 4 + int.from_bytes(run[:4], "little")] for run in runs]
        counts = [len(run) // len(frame) for run, frame in zip(runs, frames, strict=True)]
        # Frames that leave no byte over are what reading length by length would give: a length fixes its word.
        if sum(counts) == n_rows and sum(map(len, runs)) == len(tensor.raw):
            return Coded(np.repeat(np.array([self.framed[frame] for frame in frames], np.float32), counts))
        return self._coded(texts(tensor, n_rows), self.tensor_words)

    def _coded(self, values: Sequence[Any], words: Mapping[Any, float]) -> Coded:
        if not _TEXT.issuperset(map(type, values)):
            row = next(row for row, value in enumerate(values) if type(value) not in _TEXT)
            raise self._error(row, values[row])
        places = [words.get(value) for value in values]
        if None in places and self.column.unknown == "reject":
            row = places.index(None)
            raise self._error(row, values[row])
        return Coded(np.array(places, np.float32))

    def _error(self, row: int, arrived: Any) -> RequestError:
        expected = f"one of {', '.join(self.column.values)}"
        return RequestError(f"column {self.column.name!r}, row {row + 1}: expected {expected}, got {shown(arrived)}")


_TEXT = {str, bytes, type(None)}


def field_of(column: Column) -> Field:
    return CategoryField(column) if column.type == "category" else NumberField(column)


def _worded(value: Any, column: Column) -> Any:
    """A number or boolean as the word that a table would hold, where the contract knows that word."""
    if type(value) not in (int, float, bool):
        return value
    try:
        text = word(value, column.values)
    except ValueError:
        # Python writes no whole number of thousands of digits.
        return value
    return text if text in column.values or text in column.missing or column.unknown == "missing" else value


def _text(value: Any, column: Column) -> Any:
    """What a word of a boolean tensor says; text has no null there, so an empty one stands for it."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return None if text == "" and column.may_be_missing else text
