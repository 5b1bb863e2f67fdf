"""Rules over a contract's columns: a small declarative language, checked against the contract and run by numpy.

A condition holds, fails, or stays undecided because a value is missing (Kleene's three-valued logic). `all` fails as
soon as one part fails, `any` holds as soon as one part holds, and `not` of an undecided condition is undecided.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.contract.values import limits, shown_number
from offers.errors import PolicyError
from offers.model.encoder import Coded
from offers.yaml_file import Problem, Section, form, refuse

Truth = tuple[np.ndarray, np.ndarray]
"""Where a condition holds and where it fails; where neither, it can't be told."""

Test = Callable[[Mapping[str, np.ndarray]], Truth]
"""A compiled condition: codes of columns by name, shape (n_rows, 1), to its truth."""

_TYPES: dict[str, tuple[str, ...]] = {
    "at_least": ("integer", "number"),
    "at_most": ("integer", "number"),
    "equals": ("integer", "number", "category", "boolean"),
    "in": ("integer", "category"),
    "is_not": ("integer", "category"),
    "missing": ("integer", "number", "category", "boolean"),
}
_LARGEST = 2**53
_FIELDS = {"in": "in_"}


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float) or (isinstance(value, int) and abs(value) > _LARGEST):
        raise PydanticCustomError("scalar", "a number, a word, true or false")
    return value


Value = Annotated[str | int | float | bool, PlainValidator(_scalar)]
Values = Annotated[tuple[Value, ...], Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]


class Condition(Section):
    """A test of one column, or `all`, `any` or `not` of other conditions.

    Several operators on one column must all hold. A missing value leaves every operator undecided except `missing`.
    """

    column: str | None = None
    at_least: Number | None = None
    at_most: Number | None = None
    equals: Value | None = None
    in_: Annotated[Values | None, Field(alias="in")] = None
    is_not: Values | None = None
    missing: Annotated[bool, Field(strict=True)] | None = None
    all_: Annotated["tuple[Condition, ...] | None", Field(alias="all", min_length=1)] = None
    any_: Annotated["tuple[Condition, ...] | None", Field(alias="any", min_length=1)] = None
    not_: Annotated["Condition | None", Field(alias="not")] = None

    @property
    def asked(self) -> dict[str, tuple[Any, ...]]:
        """The operators in use, each with its values."""
        operands = {operator: getattr(self, _FIELDS.get(operator, operator)) for operator in _TYPES}
        return {
            operator: value if isinstance(value, tuple) else (value,)
            for operator, value in operands.items()
            if value is not None
        }

    @property
    def parts(self) -> list[tuple[tuple[str | int, ...], "Condition"]]:
        """The conditions inside this one, each with the keys that lead to it."""
        branch, inside = ("all", self.all_) if self.all_ else ("any", self.any_ or ())
        lone: list[tuple[tuple[str | int, ...], Condition]] = [(("not",), self.not_)] if self.not_ else []
        return lone + [((branch, place), part) for place, part in enumerate(inside)]

    @property
    def columns(self) -> frozenset[str]:
        """The columns that the condition tests, those of its parts included."""
        own = frozenset[str]() if self.column is None else frozenset({self.column})
        return own.union(*(part.columns for _, part in self.parts))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        forms = (self.column, self.all_, self.any_, self.not_)
        if sum(value is not None for value in forms) != 1:
            yield (), "expected exactly one of column, all, any, not"
        if self.column is not None and not self.asked:
            yield (), f"column {self.column!r} needs one of {', '.join(_TYPES)}"
        if self.column is None and self.asked:
            yield (next(iter(self.asked)),), "an operator needs a 'column' beside it"
        if self.missing is not None and len(self.asked) > 1:
            yield ("missing",), "'missing' stands alone: other operators can't be told for a missing value anyhow"
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            yield ("at_least",), f"'at_least' {self.at_least:g} is above 'at_most' {self.at_most:g}"

    def protected(self, contract: Contract) -> list[str]:
        """List the protected columns that the condition tests."""
        return [column.name for column in contract.protected if column.name in self.columns]

    def __str__(self) -> str:
        if self.column is not None:
            return f"{self.column} {' and '.join(_words(*test) for test in self.asked.items())}"
        if self.not_ is not None:
            return f"not ({self.not_})"
        word = " and " if self.all_ else " or "
        return word.join(f"({part})" if part.parts else str(part) for _, part in self.parts)


Justification = Annotated[str, form(r"\S", "a sentence that says why")]


class Rule(Condition):
    """A condition that has to hold, and the code of the reason to give where it does not.

    A rule that tests a protected column needs a `justification`, which the release's card prints.
    """

    reason: Annotated[str, form(r"^[A-Z][A-Z0-9_]{1,60}$", "capitals, digits and _, such as AGE_BELOW_18")]
    justification: Justification | None = None


def problems(condition: Condition, contract: Contract) -> Iterator[Problem]:
    """Yield the reasons why a condition can't be tested on a contract's columns, each with its key."""
    for path, part in condition.parts:
        yield from (((*path, *key), problem) for key, problem in problems(part, contract))
    if condition.column is None:
        return
    column = contract.by_name.get(condition.column)
    if column is None:
        yield ("column",), f"contract {contract.name} has no column {condition.column!r}"
    elif not column.is_input:
        expected = "rules see customer, offer and context columns only"
        yield (
            ("column",),
            f"{column.name!r} has role {column.role}, so it is not there when a decision is made: {expected}",
        )
    else:
        yield from _operator_problems(condition, column)


def _operator_problems(condition: Condition, column: Column) -> Iterator[Problem]:
    for operator, values in condition.asked.items():
        if column.type not in _TYPES[operator]:
            fitting = ", ".join(name for name, types in _TYPES.items() if column.type in types)
            yield (operator,), f"{column.name!r} is {column.type}, so expected one of {fitting}"
        elif operator == "missing" and not column.may_be_missing:
            yield (operator,), f"{column.name!r} is never missing by the contract, so expected another operator"
        elif operator != "missing":
            plural = operator in ("in", "is_not")
            for place, value in enumerate(values):
                if fault := misfit(column, value):
                    yield ((operator, place) if plural else (operator,)), fault


def misfit(column: Column, value: str | float | bool) -> str | None:
    """Explain why a column can't hold a value; None if it can."""
    if column.type == "boolean":
        return None if isinstance(value, bool) else f"expected true or false, got {value!r}"
    if column.type == "category":
        is_value = not isinstance(value, bool) and str(value) in column.values
        return None if is_value else f"expected one of {', '.join(column.values)}, got {value!r}"
    kind = "a whole number" if column.type == "integer" else "a number"
    if isinstance(value, bool | str) or not math.isfinite(value) or (column.type == "integer" and value % 1):
        return f"expected {kind}, got {value!r}"
    low, high = limits(column)
    expected = f"expected {kind} from {shown_number(low)} to {shown_number(high)}"
    return None if low <= value <= high else f"{expected}, got {value!r}"


def codes(column: Column, values: Any) -> np.ndarray:
    """Turn values of a column into the numbers that compiled conditions test; NaN where a value is missing.

    Parameters
    ----------
    values : array, shape (n,); a category as words or `Coded`, other types as numbers

    Returns
    -------
    ndarray, shape (n,), float64
        a category is coded by its place in the contract's `values`, yes and no as 1 and 0

    Raises
    ------
    PolicyError
        the values are not numbers
    """
    if isinstance(values, Coded):
        return values.places.astype(np.float64)
    if column.type == "category":
        places = {value: float(place) for place, value in enumerate(column.values)}
        return np.array([places.get(value, math.nan) for value in np.asarray(values, object).tolist()], np.float64)
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"column '{column.name}': expected numbers, but {error}") from None


def compiled(condition: Condition, contract: Contract, constants: Mapping[str, np.ndarray]) -> Test:
    """Compile a condition.

    Parameters
    ----------
    constants : codes of the offers' attributes by column, shape (1, n_offers); other columns vary by customer

    Returns
    -------
    Test
        its answers broadcast to shape (n_rows, n_offers)
    """
    if condition.column is not None:
        return _compiled_column(condition, contract[condition.column], constants)
    tests = [compiled(part, contract, constants) for _, part in condition.parts]
    if condition.not_ is not None:
        return lambda columns: tests[0](columns)[::-1]
    if condition.all_:
        return lambda columns: _all([test(columns) for test in tests])
    return lambda columns: _all([test(columns)[::-1] for test in tests])[::-1]


def _compiled_column(condition: Condition, column: Column, constants: Mapping[str, np.ndarray]) -> Test:
    operators = {
        operator: codes(column, [str(value) for value in values] if column.type == "category" else values)
        for operator, values in condition.asked.items()
        if operator != "missing"
    }
    if (name := column.name) in constants:
        constant = _truth(constants[name], operators, condition.missing)
        return lambda columns: constant
    return lambda columns: _truth(columns[name], operators, condition.missing)


def _truth(values: np.ndarray, operators: Mapping[str, np.ndarray], missing: bool | None) -> Truth:
    present = np.isfinite(values)
    if missing is not None:
        return present != missing, present == missing
    holds = present
    for operator, operand in operators.items():
        holds = holds & _OPERATORS[operator](values, operand)
    return holds, present & ~holds


def _one_of(values: np.ndarray, operands: np.ndarray) -> np.ndarray:
    return reduce(np.logical_or, (values == value for value in operands))


_OPERATORS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "at_least": lambda values, wanted: values >= wanted,
    "at_most": lambda values, wanted: values <= wanted,
    "equals": _one_of,
    "in": _one_of,
    "is_not": lambda values, wanted: ~_one_of(values, wanted),
}


def _all(truths: list[Truth]) -> Truth:
    holds, fails = zip(*truths, strict=True)
    return reduce(np.logical_and, holds), reduce(np.logical_or, fails)


def _words(operator: str, values: tuple[Any, ...]) -> str:
    if operator == "missing":
        return "missing" if values[0] else "not missing"
    text = " or ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    word = {"at_least": "at least", "at_most": "at most", "equals": "equal to", "in": "one of", "is_not": "not"}
    return f"{word[operator]} {text}"
