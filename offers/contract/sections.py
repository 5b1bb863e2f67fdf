"""The sections of a contract beside its columns: source, target, time, evaluation, model, gate, watch."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from offers.contract.secret import ADVICE, literal_secret
from offers.yaml_file import Problem, Section, Text, form, refuse

Share = Annotated[float, Field(gt=0, lt=1)]
Month = Annotated[str, form(r"^\d{4}-(0[1-9]|1[0-2])$", "a month such as 2008-05")]


class CsvFormat(Section):
    """How text is written: `missing` are words that stand for an empty cell, whatever the column.

    `sheet` is that of an Excel workbook, the first by default.
    """

    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
    thousands: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    missing: tuple[Text, ...] = ()
    quote: Annotated[str, Field(min_length=1, max_length=1)] = '"'
    encoding: str = "utf-8"
    sheet: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.thousands is not None and (self.thousands == self.decimal or self.thousands in "+-eE0123456789"):
            refuse([(("thousands",), f"{self.thousands!r} can't part the digits of a number")])
        return self


class Source(Section):
    """Where the rows come from.

    `uri` is a file, http(s)://, s3:// or SQLAlchemy URL, or "simulated"; `member` the path inside a zip (zips
    in zips with further `/`), `sha256` of the innermost file, `query` the SQL text. `extra_columns` says what columns
    do that the contract does not declare.
    """

    uri: str | None = None
    file: Annotated[str, Field(min_length=1)]
    member: str | None = None
    query: str | None = None
    extra_columns: Literal["refuse", "ignore"] = "refuse"
    sha256: Annotated[str, form(r"^[0-9a-f]{64}$", "a SHA-256 of 64 digits in small letters")] | None = None
    format: CsvFormat = CsvFormat()
    licence: str = ""
    citation: str = ""
    hint: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.uri and (secret := literal_secret(self.uri)):
            refuse([(("uri",), f"it holds {secret}, which would be copied to reports, bundles and logs: {ADVICE}")])
        return self


class Target(Section):
    """The outcome: its column, the value that counts as acceptance, and when a label is mature."""

    column: str
    positive: Text
    negative: Text
    matures_after_days: Annotated[float, Field(ge=0)] = 0


class Timeline(Section):
    """Rows are in time order. `column` is a date, or a month whose name wraps into the next year from `start`."""

    column: str
    start: Month | None = None
    until: Month | None = None


class EvaluationSettings(Section):
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
    """When scored rows have drifted: `drift.reference.Watch` explains each key."""

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


_OLD_KEYS = ("recalibrate", "recalibration_rows", "platt_labels", "prior")


class Walk(Section):
    """How a weight of the dynamic layer moves: its spread in the long run, in log-odds, and its memory in rows."""

    spread: Annotated[float, Field(gt=0, le=10)]
    memory: Annotated[float, Field(ge=1)]


class Dynamics(Section):
    """The layer that learns between trainings, of a contract with time order: `offers.model.layer` has its rule.

    `fast` and `slow` are the two parts of its level, `columns` its other weights. It learns `batch` rows at a time, and
    is never more than `share` of a margin. `dynamics: none` does without it.
    """

    fast: Walk = Walk(spread=0.5, memory=500)
    slow: Walk = Walk(spread=2.0, memory=30_000)
    columns: Walk = Walk(spread=0.3, memory=10_000)
    batch: Annotated[int, Field(ge=20, le=5000)] = 250
    share: Annotated[float, Field(ge=0, le=0.5)] = 0.5


class Retraining(Section):
    """When models are trained again: `offers.monitoring.two_of_three` has the rule.

    `cool_down` rows are scored between two trainings, `patience` rows where labels do not show harm. `labels` matured
    labels, `outcomes` of them of each kind, are the fewest that performance is judged by, the `newest` ones at most;
    a training waits for `labels` that the model has not learnt from. `surprise` is in standard deviations.
    """

    cool_down: Annotated[int, Field(ge=1)] = 500
    patience: Annotated[int, Field(ge=1)] = 2000
    labels: Annotated[int, Field(ge=20)] = 100
    outcomes: Annotated[int, Field(ge=1)] = 5
    newest: Annotated[int, Field(ge=50)] = 1000
    surprise: Annotated[float, Field(gt=0)] = 3

    @model_validator(mode="before")
    @classmethod
    def _without_old_keys(cls, content: Any) -> Any:
        # Contracts inside bundles of version 0.1 may hold them: recalibration was what the layer is now.
        return (
            {key: value for key, value in content.items() if key not in _OLD_KEYS}
            if isinstance(content, dict)
            else content
        )


Metric = Literal["auc", "average_precision", "log_loss", "brier", "ece", "ks", "lift", "precision", "recall", "f1"]


class GateRule(Section):
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
        thresholds = (self.at_least, self.at_most, self.ceiling, self.not_worse_than_champion_by)
        if all(value is None for value in thresholds) and not self.better_than_baseline:
            keys = "at_least, at_most, ceiling, better_than_baseline, not_worse_than_champion_by"
            yield (), f"a rule needs one of {keys}"
        if self.on != "pooled" and (self.better_than_baseline or self.not_worse_than_champion_by is not None):
            yield ("on",), "comparisons with the baseline or the champion are made on pooled figures"
        if self.on == "within_period" and self.metric != "auc":
            yield ("metric",), f"within periods only the auc is measured, not {self.metric}"


class ApprovalSettings(Section):
    """Who lets a release be promoted: the gate alone, or so many people beside it, for so many days."""

    by: Literal["people", "gate"] = "people"
    people: Annotated[int, Field(ge=1, le=9)] = 2
    days: Annotated[int, Field(ge=1, le=3650)] = 365


class Challenge(Section):
    """What a challenger has to show against the model that serves, on the newest `rows` matured rows.

    By each of `auc` (within periods), `log_loss` and `ece` it may be worse than what serves by so much. With fewer than
    `fewest` rows it is refused.
    """

    rows: Annotated[int, Field(ge=100)] = 2000
    fewest: Annotated[int, Field(ge=50)] = 200
    auc: Annotated[float, Field(ge=0)] = 0.005
    log_loss: Annotated[float, Field(ge=0)] = 0.0
    ece: Annotated[float, Field(ge=0)] = 0.02


class Simulation(Section):
    """The simulated world: acceptance rate and the spread, in logits, of customers and of periods."""

    rows: Annotated[int, Field(ge=100)] = 40000
    base_rate: Share = 0.1
    customer_spread: Annotated[float, Field(ge=0)] = 1.0
    period_spread: Annotated[float, Field(ge=0)] = 0.0
    periods: Annotated[int, Field(ge=1)] = 12
