"""The contract of a data set: columns, roles, time order, evaluation, gate. One YAML file drives everything."""

from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from itertools import chain
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from offers.errors import ContractError
from offers.yaml_file import Kind, Problem, Section, Text, refuse

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Role(StrEnum):
    """What a column is to the decision."""

    CUSTOMER = "customer"
    OFFER = "offer"
    CONTEXT = "context"
    LEAKAGE = "leakage"
    TARGET = "target"
    PROTECTED = "protected"
    IDENTIFIER = "identifier"
    TIME = "time"


INPUT_ROLES = (Role.CUSTOMER, Role.OFFER, Role.CONTEXT)

ColumnType = Literal["integer", "number", "category", "boolean", "date", "text"]
Share = Annotated[float, Field(gt=0, lt=1)]


class Column(Section):
    """One column: its type, what it may hold, and its role.

    `missing` lists values that stand for "not known" (999 days, -1 years); `unknown` says what a category
    outside `values` does to a row; `typical` is a central range, or a share per value, for the simulated world.
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
    protected: bool = False
    bands: tuple[float, ...] = ()
    drift: Literal["watched", "expected"] = "watched"
    typical: tuple[float, float] | dict[Text, float] | None = None

    @property
    def is_input(self) -> bool:
        """Whether a model sees this column."""
        return self.role in INPUT_ROLES

    @property
    def is_numeric(self) -> bool:
        return self.type in ("integer", "number")

    @property
    def may_be_missing(self) -> bool:
        return self.nullable or bool(self.missing) or self.unknown == "missing"

    @property
    def has_groups(self) -> bool:
        """Whether rows can be told apart by it: by category, by yes and no, or by band."""
        return self.type in ("category", "boolean") or bool(self.bands)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(chain(self._type_problems(), self._role_problems(), self._typical_problems()))
        return self

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
        if self.protected and not (self.is_input or self.role == Role.PROTECTED):
            yield ("protected",), f"'protected' marks inputs; this column has role {self.role}"

    def _typical_problems(self) -> Iterator[Problem]:
        if isinstance(self.typical, dict) and not set(self.typical) <= set(self.values):
            strange = sorted(set(self.typical) - set(self.values))
            yield ("typical",), f"'typical' names values that 'values' lacks: {strange}"
        if self.typical is not None and isinstance(self.typical, dict) != (self.type == "category"):
            yield ("typical",), "'typical' is a share per value for categories and [low, high] for numbers"


class CsvFormat(Section):
    """How the source file is written."""

    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
    quote: Annotated[str, Field(min_length=1, max_length=1)] = '"'
    encoding: str = "utf-8"


class Source(Section):
    """Where the rows come from.

    `uri` is a file, http(s)://, s3:// or SQLAlchemy URL, or "simulated"; `member` the path inside a zip (zips
    in zips with further `/`), `sha256` of the innermost file, `query` the SQL text.
    """

    uri: str | None = None
    file: Annotated[str, Field(min_length=1)]
    member: str | None = None
    query: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    format: CsvFormat = CsvFormat()
    licence: str = ""
    citation: str = ""
    hint: str = ""


class Target(Section):
    """The outcome: its column, the value that counts as acceptance, and when a label is mature."""

    column: str
    positive: Text
    negative: Text
    matures_after_days: Annotated[float, Field(ge=0)] = 0


class Timeline(Section):
    """Rows are in time order. `column` is a date, or a month whose name wraps into the next year from `start`."""

    column: str
    start: Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")] | None = None
    until: Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")] | None = None


class Evaluation(Section):
    """How quality is estimated: out-of-time windows with refits where there is time order, else folds."""

    train_share: Share = 0.6
    windows: Annotated[int, Field(ge=1, le=12)] = 3
    refit_every: Annotated[int, Field(ge=50)] = 500
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    contact_share: Share = 0.1
    bootstrap: Annotated[int, Field(ge=50, le=5000)] = 200
    smallest_segment: Annotated[int, Field(ge=1)] = 100


class Calibration(Section):
    """Platt scaling of the margins that the model gave to the newest `rows` rows before it had seen them.

    `prior` is the weight, in rows, of the belief that the margins are right already.
    """

    rows: Annotated[int, Field(ge=200)] = 2000
    prior: Annotated[float, Field(ge=0)] = 50


class ModelSettings(Section):
    """XGBoost's parameters; an Optuna search starts from these. `newest_rows` limits the training rows."""

    trees: Annotated[int, Field(ge=1, le=5000)] = 300
    depth: Annotated[int, Field(ge=1, le=12)] = 4
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.03
    row_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    column_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    min_child_weight: Annotated[float, Field(ge=0)] = 1.0
    l2: Annotated[float, Field(ge=0)] = 1.0
    newest_rows: Annotated[int, Field(ge=500)] | None = None


class Watching(Section):
    """When scored rows have drifted: `offers.reference.Watch`, which explains each key, with the same defaults."""

    window: Annotated[int, Field(ge=100)] = 1000
    consecutive: Annotated[int, Field(ge=1, le=20)] = 2
    p_value: Share = 0.2
    false_discovery_rate: Share = 0.0005
    ks: Share = 0.1
    cramers_v: Share = 0.1
    psi: Annotated[float, Field(gt=0)] = 0.1
    share_ratio: Annotated[float, Field(gt=1)] = 1.3
    share_difference: Share = 0.005
    rate_ratio: Annotated[float, Field(gt=1)] = 1.2
    attribution: Share = 0.9


class Retraining(Section):
    """When scores are recalibrated and models trained again: `offers.verdict` has the rule.

    `cool_down` rows are scored between two trainings, `patience` rows where labels do not show harm. `labels` matured
    labels, `outcomes` of them of each kind, are the fewest that performance is judged by, the `newest` ones at most;
    a training waits for `labels` that the model has not learnt from. `surprise` is in standard deviations.
    `platt_labels` is the number from which recalibration fits a slope beside the intercept.
    """

    cool_down: Annotated[int, Field(ge=1)] = 500
    patience: Annotated[int, Field(ge=1)] = 2000
    labels: Annotated[int, Field(ge=20)] = 100
    outcomes: Annotated[int, Field(ge=1)] = 5
    newest: Annotated[int, Field(ge=50)] = 1000
    surprise: Annotated[float, Field(gt=0)] = 3
    recalibrate: bool = True
    recalibration_rows: Annotated[int, Field(ge=50)] = 500
    platt_labels: Annotated[int, Field(ge=50)] = 500
    prior: Annotated[float, Field(gt=0)] = 10


Metric = Literal["auc", "average_precision", "log_loss", "brier", "ece", "ks", "lift", "precision", "recall", "f1"]


class Rule(Section):
    """One line of the gate.

    `on` says which figure: pooled over all windows (or folds), each window, or within periods. `ceiling` is the
    value above which a figure is too good to be true.
    """

    metric: Metric
    on: Literal["pooled", "each_window", "within_period"] = "pooled"
    at_least: float | None = None
    at_most: float | None = None
    ceiling: float | None = None
    better_than_baseline: bool = False
    not_worse_than_champion_by: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        asked = (self.at_least, self.at_most, self.ceiling, self.not_worse_than_champion_by)
        if all(value is None for value in asked) and not self.better_than_baseline:
            keys = "at_least, at_most, ceiling, better_than_baseline, not_worse_than_champion_by"
            yield (), f"a rule needs one of {keys}"
        if self.on != "pooled" and (self.better_than_baseline or self.not_worse_than_champion_by is not None):
            yield ("on",), "comparisons with the baseline or the champion are made on pooled figures"
        if self.on == "within_period" and self.metric != "auc":
            yield ("metric",), f"within periods only the auc is measured, not {self.metric}"


class Approval(Section):
    """Who lets a release be promoted: the gate alone, or so many people beside it, for so many days."""

    by: Literal["people", "gate"] = "people"
    people: Annotated[int, Field(ge=1, le=9)] = 2
    days: Annotated[int, Field(ge=1, le=3650)] = 365


class Simulation(Section):
    """The simulated world: acceptance rate and the spread, in logits, of customers and of periods."""

    rows: Annotated[int, Field(ge=100)] = 40000
    base_rate: Share = 0.1
    customer_spread: Annotated[float, Field(ge=0)] = 1.0
    period_spread: Annotated[float, Field(ge=0)] = 0.0
    periods: Annotated[int, Field(ge=1)] = 12


class Contract(Section):
    """Everything that is known of a data set before its first row arrives."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
    title: str
    description: str = ""
    source: Source
    columns: Annotated[tuple[Column, ...], Field(min_length=2)]
    target: Target
    time: Timeline | None = None
    segments: tuple[str, ...] = ()
    evaluation: Evaluation = Evaluation()
    model: ModelSettings = ModelSettings()
    calibration: Calibration = Calibration()
    gate: Annotated[tuple[Rule, ...], Field(min_length=1)]
    simulation: Simulation = Simulation()
    watch: Watching = Watching()
    retraining: Retraining = Retraining()
    approval: Approval = Approval()

    @cached_property
    def by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns a model sees, in the contract's order; leakage is never among them."""
        return tuple(column for column in self.columns if column.is_input)

    @property
    def protected(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.protected or column.role == Role.PROTECTED)

    def __getitem__(self, name: str) -> Column:
        return self.by_name[name]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(chain(self._name_problems(), self._segment_problems(), self._time_problems()))
        return self

    def _name_problems(self) -> Iterator[Problem]:
        names = [column.name for column in self.columns]
        for place, name in enumerate(names):
            if name in names[:place]:
                yield ("columns", place, "name"), f"column {name!r} is declared twice"
            if name.startswith("_"):
                yield ("columns", place, "name"), f"column names that begin with '_' are ours: {name!r}"
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


_FILE = Kind("contract", "offers.contracts", "name, source and columns", ContractError)


def shipped() -> list[str]:
    """Names of the contracts that come with the package."""
    return _FILE.shipped()


def load(where: str) -> Contract:
    """Load a contract by the name of a shipped one, by path, or from its YAML text.

    Raises
    ------
    ContractError
        no such contract, not YAML, or a key is unknown, missing or has a wrong value: names line and key
    """
    return parse(*_FILE.find(where))


def text(where: str) -> str:
    """The YAML text that `load` would read, so that it can travel into a pipeline run."""
    return _FILE.find(where)[0]


def parse(yaml_text: str, origin: str = "contract") -> Contract:
    """Build a contract from YAML text; `origin` names the file in messages."""
    return _FILE.read(yaml_text, origin).into(Contract)
