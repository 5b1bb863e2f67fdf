"""A column of a V2 request: its datatype, shape and values, as they came."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from offers.contract.column import Column
from offers.errors import RequestError
from offers.wording import shown

NUMBERS: dict[str, np.dtype[Any]] = {
    "FP64": np.dtype("<f8"),
    "FP32": np.dtype("<f4"),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (64, 32, 16, 8)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (64, 32, 16, 8)},
}
"""The V2 protocol's numeric datatypes that a column may come in, and how NumPy reads their raw bytes."""


JSON_TYPES: dict[str, set[type]] = {"F": {int, float}, "I": {int}, "U": {int}, "B": {bool, int}}


class Tensor(NamedTuple):
    """A column in the V2 protocol: `raw` holds little-endian bytes (text with 4-byte lengths), else `values` do."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: Sequence[Any] | None = None
    raw: bytes | None = None


def datatype(column: Column) -> str:
    """The V2 datatype that a column is declared with; others that hold its values are accepted too."""
    if column.type == "category":
        return "BYTES"
    if column.type == "boolean":
        return "FP64" if column.may_be_missing else "BOOL"
    return "FP64" if column.type == "number" or column.may_be_missing else "INT64"


def wrong_datatype(column: Column, expected: str, tensor: Tensor) -> RequestError:
    return RequestError(f"column {column.name!r}: expected datatype {expected}, got {shown(tensor.datatype)}")


def row_count(tensor: Tensor) -> int:
    shape = list(tensor.shape)
    if len(shape) == 1 and type(shape[0]) is int and shape[0] >= 0:
        return shape[0]
    whole = all(type(length) is int and length >= 0 for length in shape)
    if not whole or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise RequestError(f"column {tensor.name!r}: expected shape [n] or [n, 1], got {str(shape)[:60]}")
    return int(shape[0])


def flat(tensor: Tensor, n_rows: int) -> list[Any]:
    values = list(tensor.values or ())
    if len(tensor.shape) == 2 and all(isinstance(value, list) and len(value) == 1 for value in values):
        values = [value[0] for value in values]
    if len(values) != n_rows:
        raise RequestError(
            f"column {tensor.name!r}: expected {n_rows} values as shape {list(tensor.shape)} says, got {len(values)}"
        )
    return values


def texts(tensor: Tensor, n_rows: int) -> list[Any]:
    return flat(tensor, n_rows) if tensor.raw is None else list(_unframed(tensor.raw, n_rows, tensor.name))


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
