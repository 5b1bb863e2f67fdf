"""Tables about rows for the terminal: columns, periods, and broken rules."""

from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.contract.values import shown_number
from offers.data.periods import periods
from offers.data.validation import Violation


def violations_table(violations: Sequence[Violation]) -> Table:
    table = _folding("column", "expected", "rows", "for example", title="Rules that the rows break")
    for violation in violations:
        examples = ", ".join(f"row {row}: {value}" for row, value in violation.examples[:3])
        table.add_row(violation.column, violation.expected, str(violation.count), examples)
    return table


def columns_table(frame: pd.DataFrame, contract: Contract) -> Table:
    table = _folding("column", "role", "type", "missing", "holds")
    for column in contract.columns:
        values = frame[column.name]
        if column.role == Role.TARGET:
            values = values.map({True: contract.target.positive, False: contract.target.negative})
        holds = _holds(values, column)
        table.add_row(column.name, column.role.value, column.type, f"{values.isna().mean():.1%}", holds)
    return table


def periods_table(frame: pd.DataFrame, contract: Contract) -> Table:
    table = _folding("period", "rows", "accepted", title="Acceptance through time")
    groups = frame[contract.target.column].groupby(periods(frame, contract))
    for period, labels in groups:
        table.add_row(str(period), str(len(labels)), f"{labels.mean():.1%}")
    return table


def _folding(*headings: str, title: str | None = None) -> Table:
    """Make a table whose cells wrap on a narrow screen."""
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _holds(values: pd.Series, column: Column) -> str:
    if column.type == "date":
        first, last = (str(moment).removesuffix(" 00:00:00") for moment in (values.min(), values.max()))
        return f"{first} to {last}" if values.notna().any() else "nothing"
    if column.role == Role.IDENTIFIER or column.type == "text":
        return f"{values.nunique()} different values"
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        low, middle, high = values.quantile([0, 0.5, 1])
        return f"{shown_number(low)} to {shown_number(high)}, median {shown_number(middle)}"
    shares = values.value_counts(normalize=True, sort=True)
    top = ", ".join(f"{value} {share:.0%}" for value, share in shares.head(5).items())
    return f"{top}{f', {len(shares) - 5} more' if len(shares) > 5 else ''}"
