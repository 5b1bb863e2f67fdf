"""A form made from a contract: one field for each column that a request has to bring."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from serving.app.screen import plain

ACROSS = 4
AT_ONCE = 24
"""Fields that a page shows at once; the others of a wide contract lie in a drawer."""


def asked_of(contract: Contract) -> list[Column]:
    """List the columns that a request brings; the catalogue sets the others."""
    return [column for column in contract.inputs if column.role != Role.OFFER]


def fields(contract: Contract, start: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Show a field for each column, and return what is in them, None for what is not known.

    Parameters
    ----------
    start : value of each field at first
    key : names these fields; other start values need another key
    """
    columns = asked_of(contract)
    values = _grid(columns[:AT_ONCE], start, key)
    if rest := columns[AT_ONCE:]:
        with st.expander(f"{len(rest)} more columns"):
            values |= _grid(rest, start, key)
    return values


def _grid(columns: Sequence[Column], start: Mapping[str, Any], key: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for first in range(0, len(columns), ACROSS):
        for cell, column in zip(st.columns(ACROSS), columns[first : first + ACROSS], strict=False):
            with cell:
                values[column.name] = field(column, start[column.name], f"{key}:{column.name}")
    return values


def field(column: Column, value: Any, key: str) -> Any:
    """Show the field of a column."""
    if column.is_numeric:
        return _number(column, value, key)
    options: list[Any] = list(column.values) if column.type == "category" else [True, False]
    options += [None] if column.may_be_missing else []
    place = options.index(value) if value in options else 0
    return st.selectbox(title(column), options, place, _word, key=key, help=_help(column))


def title(column: Column) -> str:
    """Write a column's name with its unit, as Markdown."""
    return plain(f"{column.name} ({column.unit})" if column.unit else column.name)


def _number(column: Column, value: Any, key: str) -> float | None:
    kind: Any = int if column.type == "integer" else float
    low, high, start = (None if number is None else kind(number) for number in (column.min, column.max, value))
    hint = "not known" if column.may_be_missing else "a number"
    words: dict[str, Any] = {"key": key, "help": _help(column), "placeholder": hint}
    number: float | None = st.number_input(title(column), low, high, start, kind(1), **words)
    return number


def _help(column: Column) -> str:
    low, high = (f"{bound:g}" if bound is not None else "" for bound in (column.min, column.max))
    limits = f"{low or 'any'} to {high or 'any'}" if low or high else ""
    missing = "may be left empty: not known" if column.may_be_missing else ""
    return plain("; ".join(filter(None, (column.description, limits, missing)))) or plain(column.type)


def _word(value: Any) -> str:
    return "not known" if value is None else {True: "yes", False: "no"}.get(value, str(value))
