"""A column of a data set: its type, its allowed values, and its role."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from offers.contract.values import FALSE_WORDS, TRUE_WORDS
from offers.yaml_file import Problem, Section, Text, refuse

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Role(StrEnum):
    """The part that a column plays in the decision."""

    CUSTOMER = "customer"
    OFFER = "offer"
    CONTEXT = "context"
    LEAKAGE = "leakage"
    TARGET = "target"
    PROTECTED = "protected"
    IDENTIFIER = "identifier"
    TIME = "time"
    WEIGHT = "weight"


INPUT_ROLES = (Role.CUSTOMER, Role.OFFER, Role.CONTEXT)


ColumnType = Literal["integer", "number", "category", "boolean", "date", "text"]


def _names_a_day(form: str) -> bool:
    day = datetime(2003, 4, 5)
    try:
        return datetime.strptime(day.strftime(form), form).date() == day.date()
    except ValueError:
        return False


class Column(Section):
    """One column: its type, its allowed values, and its role.

    `missing` lists values that stand for "not known" (999 days, -1 years). `unknown` says what happens to a row with a
    category outside `values`. `true_values` and `false_values` are words of a boolean besides those of
    `offers.contract.values`. `justification` says why models may use a protected input. `format` is the format of a
    date in text, in the directives of strptime. `monotone` makes the trees' score rise (`up`) or fall (`down`) with the
    column. `typical` is a central range, or a share per value, for the simulated world.
    """

    name: Annotated[str, Field(min_length=1)]
    role: Role
    type: ColumnType
    description: str = ""
    unit: str | None = None
    min: float | None = None
    max: float | None = None
    values: tuple[Text, ...] = ()
    unknown: Literal["reject", "missing"] = "reject"
    missing: tuple[Text, ...] = ()
    nullable: bool = False
    true_values: tuple[Text, ...] = ()
    false_values: tuple[Text, ...] = ()
    format: Annotated[str, Field(min_length=1)] | None = None
    protected: bool = False
    justification: Annotated[str, Field(min_length=1)] | None = None
    bands: tuple[float, ...] = ()
    drift: Literal["watched", "expected"] = "watched"
    monotone: Literal["up", "down"] | None = None
    typical: tuple[float, float] | dict[Text, float] | None = None

    @property
    def is_input(self) -> bool:
        """Whether this column is an input of models."""
        return self.role in INPUT_ROLES

    @property
    def is_numeric(self) -> bool:
        return self.type in ("integer", "number")

    @property
    def may_be_missing(self) -> bool:
        return self.nullable or bool(self.missing) or self.unknown == "missing"

    @property
    def has_groups(self) -> bool:
        """Whether the column divides rows into groups: by category, by yes and no, or by band."""
        return self.type in ("category", "boolean") or bool(self.bands)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        checks = (self._type_problems(), self._text_problems(), self._role_problems(), self._typical_problems())
        refuse(chain.from_iterable(checks))
        return self

    def _text_problems(self) -> Iterator[Problem]:
        for key in ("true_values", "false_values"):
            if self.type != "boolean" and getattr(self, key):
                yield (key,), f"'{key}' belong to boolean columns; this one is {self.type}"
        yes, no = ({word.lower() for word in words} for words in (self.true_values, self.false_values))
        if twice := (yes | set(TRUE_WORDS)) & (no | set(FALSE_WORDS)):
            yield ("true_values",), f"{min(twice)!r} can't stand for both yes and no"
        if self.format is not None and self.type != "date":
            yield ("format",), f"'format' belongs to date columns; this one is {self.type}"
        if self.format is not None and not _names_a_day(self.format):
            yield ("format",), f"{self.format!r} names no day: expected year, month and day, such as '%d.%m.%Y'"

    def _type_problems(self) -> Iterator[Problem]:
        if self.type == "category" and self.role != Role.TARGET and len(self.values) < 2:
            yield ("values",), "a category column needs 'values', two at least"
        if self.type != "category" and self.values:
            yield ("values",), f"'values' belong to category columns; this one is {self.type}"
        if len(set(self.values)) < len(self.values):
            yield ("values",), "'values' holds a value twice"
        for key in ("min", "max", "bands"):
            if not self.is_numeric and getattr(self, key) not in (None, ()):
                yield (key,), f"'{key}' belongs to numeric columns; this one is {self.type}"
        if self.min is not None and self.max is not None and self.min >= self.max:
            yield ("min",), f"'min' {self.min:g} is not below 'max' {self.max:g}"
        if list(self.bands) != sorted(set(self.bands)):
            yield ("bands",), "'bands' must rise"

    def _role_problems(self) -> Iterator[Problem]:
        if self.is_input and self.type in ("text", "date"):
            yield ("role",), f"a {self.type} column can't be a model input; give it role identifier or time"
        if self.role == Role.TIME and self.type != "date":
            yield ("type",), f"role time belongs to date columns; this one is {self.type}"
        if self.role == Role.TARGET and self.type not in ("category", "boolean"):
            yield ("type",), f"a target is a category or a boolean; this one is {self.type}"
        if self.role == Role.TARGET and self.may_be_missing:
            yield ("role",), "a target can't be missing: leave rows without an outcome out of the data"
        if self.monotone and (not self.is_input or self.type == "category"):
            kind = "a category" if self.is_input else f"of role {self.role}"
            yield ("monotone",), f"'monotone' belongs to inputs that are numbers or booleans; this column is {kind}"
        if self.role == Role.WEIGHT and not self.is_numeric:
            yield ("type",), f"a weight is a number or an integer; this one is {self.type}"
        if self.role == Role.WEIGHT and self.min is not None and self.min <= 0:
            yield ("min",), f"a weight is above 0, so 'min' {self.min:g} says nothing: leave it out, or raise it"
        if self.role == Role.WEIGHT and self.may_be_missing:
            yield ("role",), "a weight can't be missing: leave rows without a weight out of the data"
        if self.protected and not (self.is_input or self.role == Role.PROTECTED):
            yield ("protected",), f"'protected' marks inputs; this column has role {self.role}"
        if self.justification is not None and not (self.protected and self.is_input):
            yield ("justification",), "'justification' says why a model may use a protected input; this is none"

    def _typical_problems(self) -> Iterator[Problem]:
        if isinstance(self.typical, dict) and not set(self.typical) <= set(self.values):
            strange = sorted(set(self.typical) - set(self.values))
            yield ("typical",), f"'typical' names values that 'values' lacks: {strange}"
        if self.typical is not None and isinstance(self.typical, dict) != (self.type == "category"):
            yield ("typical",), "'typical' is a share per value for categories and [low, high] for numbers"
