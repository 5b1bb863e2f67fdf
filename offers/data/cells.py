"""Converts cells of a table, text or typed, to the values of a column: exactly, or marked as wrong."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from offers.contract.column import Column, Role
from offers.contract.sections import CsvFormat
from offers.contract.values import (
    INTEGER_MAX,
    INTEGER_MIN,
    SAFE_INTEGER,
    boolean_words,
    float64_of,
    numbers_among,
    word,
)

_DAY, _TIME, _ZONE = r"\d{4}-\d\d-\d\d", r"[ T]\d\d:\d\d(:\d\d(\.\d+)?)?", r" ?(Z|[+-]\d\d(:?\d\d)?)"
_FIRST_DAY, _LAST_DAY = "1678-01-01", "2262-01-01"
_MIDNIGHT, _BLANKS = " 00:00:00", " \t"

NUMBER, BOOLEAN = "a number", "0 or 1 (or true and false, yes and no)"
DATE = "a date such as 2024-05-31, of the years 1678 to 2261"


class Values(NamedTuple):
    """The values of a column, missing where a cell is empty, and the rows whose cells are not as `expected`."""

    values: pd.Series
    wrong: np.ndarray
    expected: str = ""


def read(cells: pd.Series, column: Column, form: CsvFormat, outcomes: Sequence[str] = ()) -> Values:
    """Read the cells of a column.

    Parameters
    ----------
    form : format of text cells
    outcomes : words of the two outcomes, where the column is the target

    Returns
    -------
    Values
        numbers and booleans as float64, or Int64 where whole numbers are beyond what float64 holds exactly; dates as
        datetime64[ns], in UTC where they have a time zone; words as objects
    """
    cells = _without_missing(cells.reset_index(drop=True), column, form)
    if column.role == Role.TARGET or column.type in ("category", "text"):
        return Values(words(cells, outcomes or column.values), np.empty(0, np.int64))
    if column.type == "date":
        return _dates(cells, column.format)
    if column.type == "boolean":
        meanings = {text: float(meaning) for text, meaning in boolean_words(column).items()}
        values = words(cells).str.lower().map(meanings).astype("float64")
        return _checked(values, cells, BOOLEAN)
    numbers = _numbers(cells, column, form)
    return numbers._replace(values=numbers.values.mask(numbers.values.isin(numbers_among(column.missing))))


def words(cells: pd.Series, allowed: Sequence[str] = ()) -> pd.Series:
    """Convert cells to text, as a CSV file would hold them."""
    if _is_text(cells):
        in_arrow = isinstance(cells.dtype, pd.ArrowDtype) or getattr(cells.dtype, "storage", "") == "pyarrow"
        return _shared(cells) if in_arrow else cells.astype(object).mask(cells.isna(), None)
    return cells.astype(object).map(lambda cell: word(cell, allowed), na_action="ignore").astype(object)


def _shared(cells: pd.Series) -> pd.Series:
    """Make one object of each different text, whose rows share it: an object of its own takes 60 bytes more a row."""
    coded = cells.array.__arrow_array__().combine_chunks().dictionary_encode()
    texts = np.array([*coded.dictionary.to_pylist(), None], object)
    places = coded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
    return pd.Series(texts[places], cells.index)


def _is_text(cells: pd.Series) -> bool:
    """Whether the column's type guarantees text, which the type object does not."""
    is_category = isinstance(cells.dtype, pd.CategoricalDtype)
    return not is_category and cells.dtype != object and pd.api.types.is_string_dtype(cells.dtype)


def _without_missing(cells: pd.Series, column: Column, form: CsvFormat) -> pd.Series:
    if not column.missing and not form.missing:
        return cells
    texts = words(cells)
    # A date in a table has a time of day, which a missing value in the contract may leave out.
    texts = texts.str.removesuffix(_MIDNIGHT) if column.type == "date" else texts
    absent = texts.isin(column.missing)
    if form.missing:
        absent |= texts.isin(form.missing) & cells.map(lambda cell: isinstance(cell, str)).astype(bool)
    return cells.astype(object).mask(absent, None) if absent.any() else cells


def _checked(values: pd.Series, cells: pd.Series, expected: str) -> Values:
    return Values(values, np.flatnonzero(values.isna() & cells.notna()), expected)


def _numbers(cells: pd.Series, column: Column, form: CsvFormat) -> Values:
    is_short = cells.dtype in (np.float32, np.float16)
    floats = float64_of(cells.to_numpy(), column) if is_short else _floats(cells, form)
    floats[np.isinf(floats)] = np.nan
    values = _checked(pd.Series(floats), cells, NUMBER)
    large = np.flatnonzero(np.abs(floats) > SAFE_INTEGER)
    whole = bool((np.isnan(floats) | (np.rint(floats) == floats)).all())
    if column.type != "integer" or column.is_input or not large.size or not whole:
        return values
    return _exact(values, cells, large, form)


def _exact(values: Values, cells: pd.Series, large: np.ndarray, form: CsvFormat) -> Values:
    """Restore the whole numbers that float64 has rounded."""
    whole = [_whole(cells.iloc[row], form) for row in large]
    numbers: list[int | None] = [None if np.isnan(number) else int(number) for number in values.values]
    for row, number in zip(large, whole, strict=True):
        numbers[row] = number
    exact = pd.Series(pd.array(numbers, "Int64"))
    return _checked(exact, cells, f"a whole number from {INTEGER_MIN} to {INTEGER_MAX}")


def _whole(cell: Any, form: CsvFormat) -> int | None:
    if isinstance(cell, np.generic):
        cell = cell.item()
    number = Decimal(_plain(cell, form)) if isinstance(cell, str) else Decimal(cell)
    return int(number) if number == number.to_integral_value() and INTEGER_MIN <= number <= INTEGER_MAX else None


def _floats(cells: pd.Series, form: CsvFormat) -> np.ndarray:
    """Convert cells to float64; NaN where a cell is empty or not a number. A boolean is not a number."""
    if _is_text(cells):
        return _parsed(pa.array(cells, pa.string(), from_pandas=True), form)
    if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "iuf":
        return cells.to_numpy(np.float64, copy=True)
    if pd.api.types.is_integer_dtype(cells.dtype) or pd.api.types.is_float_dtype(cells.dtype):
        return cells.to_numpy(np.float64, na_value=np.nan, copy=True)
    objects = cells.astype(object).tolist()
    texts = [cell.encode("utf-8", "replace").decode() if isinstance(cell, str) else None for cell in objects]
    floats = _parsed(pa.array(texts, pa.string()), form)
    for row, cell in enumerate(objects):
        if isinstance(cell, int | float | np.integer | np.floating | Decimal) and not isinstance(cell, bool):
            floats[row] = _float(cell)
    return floats


def _float(cell: Any) -> float:
    try:
        return float(cell)
    except (OverflowError, ValueError):
        return np.inf


def _parsed(texts: pa.Array, form: CsvFormat) -> np.ndarray:
    thousands, decimal = form.thousands, re.escape(form.decimal)
    whole = r"\d+" if thousands is None else rf"(\d{{1,3}}({re.escape(thousands)}\d{{3}})+|\d+)"
    number = rf"^[+-]?({whole}({decimal}\d*)?|{decimal}\d+)([eE][+-]?\d+)?$"
    texts = pc.utf8_trim(texts, _BLANKS)
    texts = pc.if_else(pc.match_substring_regex(texts, number), texts, None)
    if thousands is not None:
        texts = pc.replace_substring(texts, thousands, "")
    if form.decimal != ".":
        texts = pc.replace_substring(texts, form.decimal, ".")
    return np.array(pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _plain(text: str, form: CsvFormat) -> str:
    return text.strip(_BLANKS).replace(form.thousands or "\0", "").replace(form.decimal, ".")


def _dates(cells: pd.Series, form: str | None) -> Values:
    expected = f"a date as {form!r} writes it" if form else DATE
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return _checked(_in_nanoseconds(cells), cells, expected)
    texts = words(cells)
    if form is not None:
        is_written = cells.map(lambda cell: isinstance(cell, str)).astype(bool)
        dates = pd.to_datetime(texts.where(is_written), errors="coerce", format=form, utc="%z" in form)
        typed = _iso_dates(texts.mask(is_written), utc=False)
        return _checked(dates.dt.tz_localize(None).astype("datetime64[ns]").fillna(typed), cells, expected)
    # Patterns come first, because pandas alone would also accept "now", a bare year and more.
    zoned = _iso_dates(texts.where(texts.str.fullmatch(_DAY + _TIME + _ZONE, na=False)), utc=True)
    local = _iso_dates(texts.where(texts.str.fullmatch(f"{_DAY}({_TIME})?", na=False)), utc=False)
    if zoned.notna().any() and local.notna().any():
        expected = "dates that all have a time zone, or none of them"
        return _checked(zoned if zoned.count() > local.count() else local, cells, expected)
    return _checked(zoned.fillna(local), cells, expected)


def _iso_dates(texts: pd.Series, utc: bool) -> pd.Series:
    dates = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=utc)
    return dates.dt.tz_localize(None).astype("datetime64[ns]")


def _in_nanoseconds(cells: pd.Series) -> pd.Series:
    """Convert dates and times to UTC in nanoseconds; missing where 64 bits can't hold them."""
    if isinstance(cells.dtype, pd.ArrowDtype):
        cells = pd.Series(cells.array.__arrow_array__().to_pandas())
    if isinstance(cells.dtype, pd.DatetimeTZDtype):
        cells = cells.dt.tz_convert("UTC").dt.tz_localize(None)
    inside = (cells >= pd.Timestamp(_FIRST_DAY)) & (cells < pd.Timestamp(_LAST_DAY))
    return cells.where(inside).astype("datetime64[ns]")
