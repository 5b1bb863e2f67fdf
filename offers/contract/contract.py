"""The contract of a data set: columns, roles, time order, evaluation, gate. One YAML file drives everything."""

from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from offers.contract.column import MONTHS, Column, Role
from offers.contract.sections import (
    ApprovalSettings,
    Calibration,
    Challenge,
    Dynamics,
    EvaluationSettings,
    GateRule,
    ModelSettings,
    Retraining,
    Simulation,
    Source,
    Target,
    Timeline,
    Watching,
)
from offers.errors import ContractError
from offers.yaml_file import Kind, Problem, Section, form, refuse

RESERVED = ("k", "offers", "as_of", "customer_id", "decision_id", "scored_at", "bundle")
"""What requests and scored rows call fields of their own: no input may have such a name."""


class Contract(Section):
    """Everything that is known about a data set before its first row arrives."""

    name: Annotated[str, form(r"^[a-z][a-z0-9-]{1,40}$", "small letters, digits and -, such as bank-marketing")]
    title: str
    description: str = ""
    source: Source
    columns: Annotated[tuple[Column, ...], Field(min_length=2)]
    target: Target
    weight: str | None = None
    time: Timeline | None = None
    segments: tuple[str, ...] = ()
    evaluation: EvaluationSettings = EvaluationSettings()
    model: ModelSettings = ModelSettings()
    calibration: Calibration = Calibration()
    gate: Annotated[tuple[GateRule, ...], Field(min_length=1)]
    challenge: Challenge = Challenge()
    dynamics: Dynamics = Dynamics()
    simulation: Simulation = Simulation()
    watch: Watching = Watching()
    retraining: Retraining = Retraining()
    approval: ApprovalSettings = ApprovalSettings()
    owner: str = ""
    tier: Literal["low", "medium", "high", ""] = ""

    @cached_property
    def by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns that models see, in the contract's order; leakage columns are never among them."""
        return tuple(column for column in self.columns if column.is_input)

    @property
    def learns(self) -> bool:
        """Whether models have a layer that learns between trainings, which needs rows in time order."""
        return self.time is not None and self.dynamics.share > 0

    @property
    def without_layer(self) -> "Contract":
        """The same contract with `dynamics: none`."""
        return self.model_copy(update={"dynamics": self.dynamics.model_copy(update={"share": 0.0})})

    @property
    def protected(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.protected or column.role == Role.PROTECTED)

    def __getitem__(self, name: str) -> Column:
        return self.by_name[name]

    @field_validator("dynamics", mode="before")
    @classmethod
    def _none(cls, dynamics: Any) -> Any:
        return {"share": 0} if dynamics == "none" else dynamics

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(chain(self._name_problems(), self._segment_problems(), self._group_problems(), self._time_problems()))
        return self

    def _name_problems(self) -> Iterator[Problem]:
        names = [column.name for column in self.columns]
        for place, name in enumerate(names):
            if name in names[:place]:
                yield ("columns", place, "name"), f"column {name!r} is declared twice"
            if name.startswith("_"):
                yield ("columns", place, "name"), f"column names that begin with '_' are ours: {name!r}"
            if name in RESERVED and self.columns[place].is_input:
                words = ", ".join(word for word in RESERVED if word != name)
                yield ("columns", place, "name"), f"{name!r} is a field of requests, as are {words}: rename the column"
        if not self.inputs:
            yield (
                ("columns",),
                "no column has role customer, offer or context, so a model would see nothing",
            )
        targets = [column.name for column in self.columns if column.role == Role.TARGET]
        if targets != [self.target.column]:
            yield (
                ("target", "column"),
                f"it is {self.target.column!r}, but the columns with role target are {targets}",
            )
        weights = [column.name for column in self.columns if column.role == Role.WEIGHT]
        if weights != [name for name in (self.weight,) if name is not None]:
            yield ("weight",), f"it is {self.weight!r}, but the columns with role weight are {weights}"
        for place, name in enumerate(self.source.key):
            if name not in names or name == self.target.column or self.by_name[name].may_be_missing:
                yield (
                    ("source", "key", place),
                    f"{name!r}: expected a column that is never missing, other than the target",
                )
        if self.target.positive == self.target.negative:
            yield ("target", "positive"), "'positive' and 'negative' are the same value"

    def _segment_problems(self) -> Iterator[Problem]:
        for place, name in enumerate(self.segments):
            column = self.by_name.get(name)
            if column is None:
                yield ("segments", place), f"{name!r} is no column"
            elif not (column.is_input or column.role == Role.PROTECTED):
                yield (
                    ("segments", place),
                    f"{name!r} has role {column.role}: segments are cut by inputs or protected columns",
                )
            elif not column.has_groups:
                yield (
                    ("segments", place),
                    f"{name!r} is {column.type}: give the column 'bands' to cut it by",
                )
        for place, column in enumerate(self.columns):
            if column in self.protected and not column.has_groups:
                yield (
                    ("columns", place),
                    f"a protected {column.type} column needs 'bands' to compare groups by",
                )

    def _group_problems(self) -> Iterator[Problem]:
        name, key = self.evaluation.group, ("evaluation", "group")
        if name is not None and name not in self.by_name:
            yield key, f"{name!r} is no column"
        elif name == self.target.column:
            yield key, f"{name!r} is the target: name a column that tells customers apart"

    def _time_problems(self) -> Iterator[Problem]:
        if self.time is None:
            for place, rule in enumerate(self.gate):
                if rule.on != "pooled":
                    yield (
                        ("gate", place, "on"),
                        "a rule on windows or periods, but the contract has no 'time'",
                    )
            return
        key, column = ("time", "column"), self.by_name.get(self.time.column)
        if column is None:
            yield key, f"{self.time.column!r} is no column"
        elif column.type == "category":
            yield from self._month_problems(column, self.time)
        elif column.role != Role.TIME:
            yield key, f"{column.name!r} must be a date with role time, or a category of months"
        elif self.time.start is not None or self.time.until is not None:
            yield ("time",), "'start' and 'until' belong to a category of months; a date has its year"
        if column is not None and column.may_be_missing:
            yield key, f"{column.name!r} may be missing, so rows would have no place in time"

    def _month_problems(self, column: Column, time: Timeline) -> Iterator[Problem]:
        if not column.is_input:
            yield ("time", "column"), f"{column.name!r} has role {column.role}: a month is known when asked"
        if not set(column.values) <= set(MONTHS):
            yield (
                ("time", "column"),
                f"{column.name!r} is a category, so its values must be of {', '.join(MONTHS)}",
            )
        if time.start is None:
            yield ("time", "start"), f"{column.name!r} is a month, so 'start' must say the first, as in 2008-05"
        elif time.until is not None and time.until < time.start:
            yield ("time", "until"), f"'until' {time.until} is before 'start' {time.start}"


_FILE = Kind("contract", "offers.contract.shipped", "name, source and columns", ContractError)


def shipped() -> list[str]:
    """Names of the contracts that come with the package."""
    return _FILE.shipped()


def load(where: str) -> Contract:
    """Load a contract by the name of a shipped one, by path, or from its YAML text.

    Raises
    ------
    ContractError
        there is no such contract, it is not YAML, or a key is unknown, missing or wrong; the message names line and key
    """
    return parse(*_FILE.find(where))


def text(where: str) -> str:
    """Get the YAML text that `load` would read, so that it can be passed to a pipeline run."""
    return _FILE.find(where)[0]


def parse(yaml_text: str, origin: str = "contract") -> Contract:
    """Build a contract from YAML text; `origin` names the file in messages."""
    return _FILE.read(yaml_text, origin).into(Contract)
