"""The rules for values, the same for files, queries, requests, tensors and catalogues."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from offers.contract.column import Column

LARGEST = float(np.finfo(np.float32).max)
"""The largest number that a model can see."""

SAFE_INTEGER = 2**53 - 1
"""The largest whole number that JSON, tensors and tables all hold exactly, and none of them takes for its neighbour."""

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
"""What a whole number that no model sees may be: the 64 bits of files and databases."""

TRUE_WORDS = ("true", "t", "yes", "y", "on", "1")
FALSE_WORDS = ("false", "f", "no", "n", "off", "0")
"""How a boolean is written, in capitals or not. A contract adds to them by `true_values` and `false_values`."""


def limits(column: "Column") -> tuple[float, float]:
    """The lowest and the highest value that a column of numbers or booleans may hold."""
    if column.type == "boolean":
        return 0.0, 1.0
    low, high = (float(-SAFE_INTEGER), float(SAFE_INTEGER)) if column.type == "integer" else (-LARGEST, LARGEST)
    return max(low, low if column.min is None else column.min), min(high, high if column.max is None else column.max)


def boolean_words(column: "Column") -> dict[str, bool]:
    """Map the words for yes and no of a boolean column, in lower case, to their meaning.

    Examples
    --------
    >>> from offers.contract.contract import Column
    >>> member = Column(name="member", role="customer", type="boolean", true_values=["Ja"], false_values=["Nein"])
    >>> boolean_words(member)["ja"], boolean_words(member)["yes"], boolean_words(member)["nein"]
    (True, True, False)
    """
    words = dict.fromkeys(map(str.lower, (*TRUE_WORDS, *column.true_values)), True)
    return words | dict.fromkeys(map(str.lower, (*FALSE_WORDS, *column.false_values)), False)


def word(value: Any, allowed: Sequence[str] = ()) -> str:
    """Write a value as a CSV file would: 1 for 1.0; a boolean as the word of `allowed` that means it.

    Examples
    --------
    >>> word(3.0), word(2.5), word(True), word(True, ["no", "yes"]), word(np.int64(7))
    ('3', '2.5', '1', 'yes', '7')
    """
    if isinstance(value, bool | np.bool_):
        meanings = TRUE_WORDS if value else FALSE_WORDS
        return next((one for one in allowed if one.lower() in meanings), str(int(value)))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def float64_of(numbers: np.ndarray, column: "Column") -> np.ndarray:
    """Convert numbers to float64; 0.1 in 32 bits, which is greater than 0.1, does not break a `max` of 0.1."""
    floats = numbers.astype(np.float64)
    if numbers.dtype in (np.float32, np.float16):
        for bound in (column.min, column.max):
            if bound is not None:
                floats[numbers == numbers.dtype.type(bound)] = bound
    return floats


def shown_number(value: Any) -> str:
    """Write a number for a message, with a whole number below 1e16 in full.

    Examples
    --------
    >>> shown_number(1e6), shown_number(0.1), shown_number(float(SAFE_INTEGER)), shown_number(LARGEST)
    ('1000000', '0.1', '9007199254740991', '3.40282e+38')
    """
    return str(int(value)) if abs(value) < 1e16 and float(value).is_integer() else f"{value:g}"


def numbers_among(words: Iterable[str]) -> list[float]:
    """Pick the words that are numbers, and parse them."""
    return [number for number in map(as_number, words) if number is not None]


def as_number(text: str) -> float | None:
    """Parse a text as a finite number; None where it is not one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None
