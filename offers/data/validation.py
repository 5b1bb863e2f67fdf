"""Turns raw rows into typed rows. Every cell that breaks the contract is listed, and none is repaired silently."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.contract.values import limits, shown_number
from offers.data import cells
from offers.data.periods import PERIOD, is_logged, months_of
from offers.errors import DataError
from offers.wording import some

_EXAMPLES = 5
_LONGEST = 200
_EMPTY = "a value, not an empty cell"

_Broken = tuple[list["Violation"], list["Violation"], list["Violation"]]
"""Violations of a column: cells that can't be read, empty cells, and values that are not allowed."""


@dataclass(frozen=True)
class Violation:
    """A rule that some rows break. `examples` are (row, value) pairs; the first data row is row 1.

    `rows` lists every row that breaks the rule, counted from 0; it is empty where only the rows together break it.
    """

    column: str
    expected: str
    count: int
    examples: tuple[tuple[int, str], ...] = ()
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), compare=False, repr=False)

    def __str__(self) -> str:
        if not self.examples:
            return f"column '{self.column}': expected {self.expected}"
        row, value = self.examples[0]
        others = f" ({self.count} rows)" if self.count > 1 else ""
        return f"column '{self.column}', row {row}: expected {self.expected}, got {value}{others}"


@dataclass(frozen=True)
class Validation:
    """Typed rows, in the contract's order of columns, with violations, and with notes that are worth a look."""

    frame: pd.DataFrame
    violations: tuple[Violation, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.violations


def validate(raw: pd.DataFrame, contract: Contract) -> Validation:
    """Type every column, then check it by the pandera schema, and check time order and the two outcomes.

    Parameters
    ----------
    raw : DataFrame with the contract's columns; text cells are parsed, typed cells are checked

    Returns
    -------
    Validation
        its frame may be used only if there is no violation
    """
    columns, found = dict[str, pd.Series](), []
    for column, values, broken in _read(raw, contract):
        # A column is cast at once, because its words take several times the memory of their categories.
        columns[column.name] = values if column.role == Role.TARGET else _cast(values, column, contract)
        found.append(broken)
    frame = pd.DataFrame(columns, copy=False)
    violations = [*_in_order(found), *_outcome_violations(frame, contract)]
    if violations:
        return Validation(frame, tuple(violations))
    notes = tuple(_notes(frame, contract))
    frame[contract.target.column] = _cast(frame[contract.target.column], contract[contract.target.column], contract)
    if PERIOD in raw:
        frame[PERIOD] = raw[PERIOD].reset_index(drop=True)
    return Validation(frame, tuple(time_violations(frame, contract)), notes)


def read_rows(raw: pd.DataFrame, contract: Contract) -> tuple[pd.DataFrame, list[Violation]]:
    """Read every cell, and list the rules that single rows break.

    Returns
    -------
    DataFrame
        the values as `offers.data.cells.read` gives them; another value stands where a cell can't be read
    list of Violation
        each with its rows
    """
    read = list(_read(raw, contract))
    frame = pd.DataFrame({column.name: values for column, values, _ in read})
    return frame, _in_order([broken for _, _, broken in read])


def _read(raw: pd.DataFrame, contract: Contract) -> Iterator[tuple[Column, pd.Series, "_Broken"]]:
    """Read a column at a time; yields its values, and the rules that they break."""
    target = contract.target
    for column in contract.columns:
        outcomes = (target.positive, target.negative) if column.role == Role.TARGET else ()
        values, wrong, expected = cells.read(raw[column.name], column, contract.source.format, outcomes)
        unreadable = []
        if wrong.size:
            unreadable.append(_violation(column.name, expected, raw[column.name], wrong))
            # An unreadable cell is listed once: a valid value replaces it, so that later checks do not list it again.
            values.iloc[wrong] = pd.Timestamp(0) if column.type == "date" else _good_number(column)
        empty = list(_empty_violations(values, column))
        yield column, values, (unreadable, empty, list(_schema_violations(values, raw, column, contract)))


def _in_order(found: "Sequence[_Broken]") -> list[Violation]:
    """List violations of all columns: first unreadable cells, then empty ones, then values that are not allowed."""
    return [violation for kind in zip(*found, strict=True) for violations in kind for violation in violations]


def broken_contract(contract: str, violations: Sequence[Violation]) -> DataError:
    """Build the error, in one sentence, for rows that break the contract."""
    rows = len(np.unique(np.concatenate([violation.rows for violation in violations])))
    who = f"{rows} row{' breaks' if rows == 1 else 's break'}" if rows else "the rows as a whole break"
    examples = "; ".join(str(violation) for violation in violations[:3])
    others = len(violations) - 3
    more = f"; and {others} more rule{'s' if others > 1 else ''}" if others > 0 else ""
    return DataError(f"{who} contract {contract}: {examples}{more}. Mend the data, or the contract")


def schema(column: Column, contract: Contract) -> pa.DataFrameSchema:
    """Build the pandera schema of a column's values: range and categories."""
    checks = [pa.Check(check, error=expected) for expected, check in _checks(column, contract)]
    return pa.DataFrameSchema({column.name: pa.Column(checks=checks, nullable=True)})


def time_violations(frame: pd.DataFrame, contract: Contract) -> Iterator[Violation]:
    """Yield violations of the time order, where the contract declares one."""
    if contract.time is None or frame.empty:
        return
    name = contract.time.column
    if contract[name].type == "date":
        back = np.flatnonzero(frame[name].to_numpy()[1:] < frame[name].to_numpy()[:-1]) + 1
        if back.size:
            yield _violation(name, "rows in time order, each date at or after the one above", frame[name], back)
        return
    months, logged = months_of(frame, contract), is_logged(frame)
    back = np.flatnonzero(logged[1:] & (months[1:] < months[:-1])) + 1
    if back.size:
        yield _violation(PERIOD, "decisions from after the history, in time order", frame[PERIOD], back)
    months = months[~logged]
    if not len(months):
        return
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


def _good_number(column: Column) -> int | float:
    low, high = limits(column)
    good = float(np.clip(1.0 if column.role == Role.WEIGHT else 0.0, low, high))
    return int(good) if good.is_integer() else good


def _checks(column: Column, contract: Contract) -> Iterator[tuple[str, Any]]:
    if column.role == Role.TARGET:
        allowed = [contract.target.positive, contract.target.negative]
        yield f"{allowed[0]!r} or {allowed[1]!r}", lambda cells: cells.isin(allowed)
    elif column.type == "category" and column.unknown == "reject":
        yield f"one of {', '.join(column.values)}", lambda cells: cells.isin(column.values)
    if column.is_numeric:
        low, high = limits(column) if column.is_input else (column.min, column.max)
        if low is not None:
            yield f"at least {shown_number(low)}", lambda cells: cells >= low
        if high is not None:
            yield f"at most {shown_number(high)}", lambda cells: cells <= high
    if column.role == Role.WEIGHT:
        yield "a weight above 0", lambda cells: cells > 0
    if column.type == "integer":
        yield "a whole number", lambda cells: cells == cells.round()


def _empty_violations(values: pd.Series, column: Column) -> Iterator[Violation]:
    if not (column.may_be_missing or column.role in (Role.IDENTIFIER, Role.LEAKAGE)):
        rows = np.flatnonzero(values.isna())
        if rows.size:
            yield _violation(column.name, _EMPTY, values, rows)


def _schema_violations(values: pd.Series, raw: pd.DataFrame, column: Column, contract: Contract) -> Iterator[Violation]:
    try:
        schema(column, contract).validate(values.to_frame(column.name), lazy=True)
    except SchemaErrors as errors:
        for check, group in errors.failure_cases.groupby("check", sort=False):
            rows = np.sort(group["index"].to_numpy(dtype=np.int64))
            if column.is_numeric:
                # A large number has lost digits in the frame.
                yield _violation(column.name, str(check), raw[column.name], rows, _shown_as_written)
            else:
                yield _violation(column.name, str(check), values, rows)


def _outcome_violations(frame: pd.DataFrame, contract: Contract) -> Iterator[Violation]:
    target = contract.target
    outcomes = set(frame[target.column].dropna().unique())
    for value in (target.positive, target.negative):
        if value not in outcomes and outcomes <= {target.positive, target.negative}:
            yield Violation(
                target.column,
                f"both outcomes, {target.positive!r} and {target.negative!r}; {value!r} never occurs",
                len(frame),
            )


def _notes(frame: pd.DataFrame, contract: Contract) -> Iterator[str]:
    """Yield notes on possible slips in the contract that break no rule: categories that never occur."""
    for column in contract.columns:
        values = set(frame[column.name].dropna().unique()) if column.values else set()
        absent = [value for value in column.values if value not in values]
        if absent:
            verb = "is declared and never occurs" if len(absent) == 1 else "are declared and never occur"
            yield f"column '{column.name}': {some([repr(value) for value in absent])} {verb}"


def _violation(
    column: str, expected: str, cells: pd.Series, rows: np.ndarray, show: Callable[[Any], str] | None = None
) -> Violation:
    examples = tuple((int(row) + 1, (show or _shown)(cells.iloc[row])) for row in rows[:_EXAMPLES])
    return Violation(column, expected, len(rows), examples, rows)


def _shown(value: Any) -> str:
    if value is None or value is pd.NaT or value is pd.NA or value != value:  # noqa: PLR0124
        return "nothing"
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return shown_number(value)
    text = str(value)
    return repr(f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text)


def _shown_as_written(number: Any) -> str:
    return number.strip()[:_LONGEST] if isinstance(number, str) else _shown(number)


def _cast(values: pd.Series, column: Column, contract: Contract) -> pd.Series:
    if column.role == Role.TARGET:
        return values == contract.target.positive
    if column.type == "category":
        return values.astype(pd.CategoricalDtype(list(column.values)))
    if (
        values.dtype == "float64"
        and column.type in ("integer", "boolean")
        and not values.isna().any()
        and not column.may_be_missing
    ):
        return values.astype("int64" if column.type == "integer" else "bool")
    return values
