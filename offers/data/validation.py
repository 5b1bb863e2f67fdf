"""Raw rows to typed rows: every cell that breaks the contract is listed, and none is repaired in silence."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from offers.contract.column import MONTHS, Column, Role
from offers.contract.contract import Contract
from offers.errors import DataError

_TRUE, _FALSE = {"1", "true", "yes"}, {"0", "false", "no"}
_DATE = r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?"
_EXAMPLES = 5


@dataclass(frozen=True)
class Violation:
    """A rule that some rows break. `examples` are (row, value) pairs; the first data row is row 1."""

    column: str
    expected: str
    count: int
    examples: tuple[tuple[int, str], ...] = ()

    def __str__(self) -> str:
        if not self.examples:
            return f"column '{self.column}': expected {self.expected}"
        row, value = self.examples[0]
        others = f" ({self.count} rows)" if self.count > 1 else ""
        return f"column '{self.column}', row {row}: expected {self.expected}, got {value}{others}"


@dataclass(frozen=True)
class Validation:
    """Typed rows, in the contract's order of columns, and what is wrong with them."""

    frame: pd.DataFrame
    violations: tuple[Violation, ...]

    @property
    def passed(self) -> bool:
        return not self.violations


def validate(raw: pd.DataFrame, contract: Contract) -> Validation:
    """Type every column, check it by the pandera schema, then the order of time and the two outcomes.

    Parameters
    ----------
    raw : DataFrame with the contract's columns; text cells are parsed, typed ones are checked

    Returns
    -------
    Validation
        the frame is fit for use only when there is no violation
    """
    parsed, violations = {}, []
    for column in contract.columns:
        parsed[column.name], wrong = _parse(raw[column.name], column, contract)
        violations += wrong
    frame = pd.DataFrame(parsed)
    violations += _schema_violations(frame, contract)
    violations += _outcome_violations(frame, contract)
    if violations:
        return Validation(frame, tuple(violations))
    for column in contract.columns:
        frame[column.name] = _cast(frame[column.name], column, contract)
    return Validation(frame, tuple(time_violations(frame, contract)))


def broken_contract(contract: str, rows: int, violations: tuple[Violation, ...]) -> DataError:
    """Build the error, in one sentence, for rows that break the contract."""
    shown = "; ".join(str(violation) for violation in violations[:3])
    more = f"; and {len(violations) - 3} more rules" if len(violations) > 3 else ""
    return DataError(f"{rows} rows break contract {contract}: {shown}{more}. Mend the data, or the contract")


def schema(contract: Contract) -> pa.DataFrameSchema:
    """Build the pandera schema of parsed rows: ranges, categories and missing values."""
    return pa.DataFrameSchema(
        {
            column.name: pa.Column(
                checks=[pa.Check(check, error=expected) for expected, check in _checks(column, contract)],
                nullable=column.may_be_missing or column.role in (Role.IDENTIFIER, Role.LEAKAGE),
            )
            for column in contract.columns
        }
    )


def periods(frame: pd.DataFrame, contract: Contract) -> np.ndarray:
    """Calendar month of each row as 'YYYY-MM', following month names over the turn of the year.

    Returns
    -------
    ndarray of str, shape (n_rows,)
        all 'all' where the contract has no time order
    """
    if contract.time is None:
        return np.full(len(frame), "all")
    column = frame[contract.time.column]
    if contract[contract.time.column].type == "date":
        return np.asarray(column.dt.strftime("%Y-%m"), dtype=str)
    return np.datetime_as_string(_months(column, contract), unit="M")


def time_violations(frame: pd.DataFrame, contract: Contract) -> Iterator[Violation]:
    """Rows that stand out of time order, where the contract declares one."""
    if contract.time is None or frame.empty:
        return
    name = contract.time.column
    if contract[name].type == "date":
        back = np.flatnonzero(frame[name].to_numpy()[1:] < frame[name].to_numpy()[:-1]) + 1
        if back.size:
            yield _violation(name, "rows in time order, each date at or after the one above", frame[name], back)
        return
    months = _months(frame[name], contract)
    if str(months[0]) != contract.time.start:
        expected = f"the first row in {contract.time.start}, as 'time.start' says, and rows in time order"
        yield _violation(name, expected, frame[name], np.array([0]))
    elif contract.time.until is not None:
        late = np.flatnonzero(months > np.datetime64(contract.time.until))
        if late.size:
            expected = (
                f"rows in time order, so that the months from {contract.time.start} on end by {contract.time.until}"
                " ('time.until')"
            )
            yield _violation(name, expected, frame[name], late)


def _months(column: pd.Series, contract: Contract) -> np.ndarray:
    assert contract.time is not None
    assert contract.time.start is not None
    number = column.astype(str).map({month: i for i, month in enumerate(MONTHS)}).to_numpy(dtype=np.int64)
    wraps = np.cumsum(np.diff(number, prepend=number[:1]) < 0)
    year = np.datetime64(contract.time.start[:4], "Y").astype("datetime64[M]")
    return np.asarray(year + number + 12 * wraps)


def _parse(cells: pd.Series, column: Column, contract: Contract) -> tuple[pd.Series, list[Violation]]:
    cells = cells.reset_index(drop=True)
    if column.missing:
        cells = cells.astype(object).mask(_words(cells).isin(column.missing), None)
    if column.role == Role.TARGET or column.type in ("category", "text"):
        return _words(cells), []
    if column.is_numeric:
        values, kind = _numbers(cells, contract.source.format.decimal), "a number"
    elif column.type == "boolean":
        values, kind = _booleans(cells), "0 or 1 (or true and false, yes and no)"
    else:
        values, kind = _dates(cells), "a date such as 2024-05-31"
    wrong = np.flatnonzero(values.isna() & cells.notna())
    if column.is_numeric:
        values = values.mask(values.isin(pd.to_numeric(list(column.missing), errors="coerce")))
    # A cell that can't be read is listed once: in the checks to come it stands in as a good value.
    values.iloc[wrong] = pd.Timestamp(0) if column.type == "date" else np.clip(0.0, column.min, column.max)
    return values, [_violation(column.name, kind, cells, wrong)] if wrong.size else []


def _words(cells: pd.Series) -> pd.Series:
    """Cells as text, the way a CSV file would hold them: 1 for 1.0 and for True."""
    return cells.astype(object).map(_word, na_action="ignore").astype(object)


def _word(cell: Any) -> str:
    if isinstance(cell, bool | np.bool_) or (isinstance(cell, float | np.floating) and cell.is_integer()):
        return str(int(cell))
    return str(cell)


def _numbers(cells: pd.Series, decimal: str) -> pd.Series:
    if not pd.api.types.is_numeric_dtype(cells):
        cells = cells.astype(object)
        if decimal == ",":
            cells = cells.map(_with_decimal_dot, na_action="ignore")
        cells = pd.to_numeric(cells, errors="coerce")
    values = cells.astype("float64")
    return values.mask(np.isinf(values))


def _with_decimal_dot(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # A dot in a file with decimal commas is a thousands mark, or a mistake: never a decimal mark.
    return "?" if "." in cell else cell.replace(",", ".")


def _booleans(cells: pd.Series) -> pd.Series:
    values = dict.fromkeys(_TRUE, 1.0) | dict.fromkeys(_FALSE, 0.0)
    return _words(cells).str.lower().map(values).astype("float64")


def _dates(cells: pd.Series) -> pd.Series:
    if isinstance(cells.dtype, pd.DatetimeTZDtype):
        cells = cells.dt.tz_localize(None)
    words = _words(cells)
    # pandas would read "now", a bare year and a mixture of time zones too.
    words = words.where(words.str.fullmatch(_DATE, na=False))
    return pd.to_datetime(words, errors="coerce", format="ISO8601")


def _checks(column: Column, contract: Contract) -> Iterator[tuple[str, Any]]:
    if column.role == Role.TARGET:
        allowed = [contract.target.positive, contract.target.negative]
        yield f"{allowed[0]!r} or {allowed[1]!r}", lambda cells: cells.isin(allowed)
    elif column.type == "category" and column.unknown == "reject":
        yield f"one of {', '.join(column.values)}", lambda cells: cells.isin(column.values)
    if column.min is not None:
        yield f"at least {column.min:g}", lambda cells: cells >= column.min
    if column.max is not None:
        yield f"at most {column.max:g}", lambda cells: cells <= column.max
    if column.type == "integer":
        yield "a whole number", lambda cells: cells == cells.round()


def _schema_violations(frame: pd.DataFrame, contract: Contract) -> Iterator[Violation]:
    try:
        schema(contract).validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        for (name, check), group in cases.groupby(["column", "check"], sort=False):
            expected = "a value, not an empty cell" if check == "not_nullable" else str(check)
            rows = np.sort(group["index"].to_numpy(dtype=np.int64))
            yield _violation(str(name), expected, frame[name], rows)


def _outcome_violations(frame: pd.DataFrame, contract: Contract) -> Iterator[Violation]:
    target = contract.target
    seen = set(frame[target.column].dropna().unique())
    for value in (target.positive, target.negative):
        if value not in seen and seen <= {target.positive, target.negative}:
            yield Violation(
                target.column,
                f"both outcomes, {target.positive!r} and {target.negative!r}; {value!r} never occurs",
                len(frame),
            )


def _violation(column: str, expected: str, cells: pd.Series, rows: np.ndarray) -> Violation:
    examples = tuple((int(row) + 1, _shown(cells.iloc[row])) for row in rows[:_EXAMPLES])
    return Violation(column, expected, len(rows), examples)


def _shown(value: Any) -> str:
    if pd.isna(value):
        return "nothing"
    return f"{value:g}" if isinstance(value, float) else repr(str(value)[:60])


def _cast(values: pd.Series, column: Column, contract: Contract) -> pd.Series:
    if column.role == Role.TARGET:
        return values == contract.target.positive
    if column.type == "category":
        return values.astype(pd.CategoricalDtype(list(column.values)))
    if column.type in ("integer", "boolean") and not values.isna().any() and not column.may_be_missing:
        return values.astype("int64" if column.type == "integer" else "bool")
    return values
