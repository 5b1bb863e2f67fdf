"""The sections of a contract apart from its columns: source, target, time, evaluation, model, gate, watch and more."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from offers.contract.secret import ADVICE, literal_secret
from offers.yaml_file import Problem, Section, Text, form, refuse

Share = Annotated[float, Field(gt=0, lt=1)]
Month = Annotated[str, form(r"^\d{4}-(0[1-9]|1[0-2])$", "a month such as 2008-05")]


class CsvFormat(Section):
    """The format of text files. `missing` are words that stand for an empty cell in any column.

    `sheet` names the sheet of an Excel workbook, by default the first.
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

    `uri` is a file, http(s)://, s3:// or SQLAlchemy URL, or "simulated". `member` is the path inside a zip; it
    continues inside a zip in a zip. `sha256` is the checksum of the innermost file, and `query` the SQL text.
    `extra_columns` says whether columns that the contract does not declare are refused or ignored. `key` names the
    columns that together name a row.
    """

    uri: str | None = None
    file: Annotated[str, Field(min_length=1)]
    member: str | None = None
    query: str | None = None
    extra_columns: Literal["refuse", "ignore"] = "refuse"
    key: tuple[Text, ...] = ()
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
    """The outcome: its column, its value for acceptance, and the age at which a label is mature."""

    column: str
    positive: Text
    negative: Text
    matures_after_days: Annotated[float, Field(ge=0)] = 0


class Timeline(Section):
    """The time order of rows. `column` holds dates, or names of months that begin at `start` and wrap over years."""

    column: str
    start: Month | None = None
    until: Month | None = None


class EvaluationSettings(Section):
    """How quality is estimated: in out-of-time windows with refits where rows have a time order, else in folds.

    Rows that share a value of `group` stay in one fold.
    """

    train_share: Share = 0.6
    windows: Annotated[int, Field(ge=1, le=12)] = 3
    refit_every: Annotated[int, Field(ge=50)] = 500
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    group: str | None = None
    contact_share: Share = 0.1
    bootstrap: Annotated[int, Field(ge=50, le=5000)] = 200
    smallest_segment: Annotated[int, Field(ge=1)] = 100


class Calibration(Section):
    """How margins become probabilities, fitted on the newest `rows` rows, which the scoring fit had not seen.

    `method` names the calibrator; `auto` chooses the simplest that is not clearly worse than others on held-out rows.
    `prior` is the weight, in rows, of the belief that the margins are calibrated already.
    """

    method: Literal["auto", "none", "platt", "beta", "isotonic"] = "auto"
    rows: Annotated[int, Field(ge=200)] = 2000
    prior: Annotated[float, Field(ge=0)] = 50


Learner = Literal["xgboost", "lightgbm", "catboost"]
LEARNER_NAMES: dict[str, str] = {"xgboost": "XGBoost", "lightgbm": "LightGBM", "catboost": "CatBoost"}
"""What people call the learners."""


class ModelSettings(Section):
    """The trees' learner and its parameters, from which an Optuna search starts.

    `alternatives` are other learners that a search tries too. `newest_rows` limits the training rows.
    """

    learner: Learner = "xgboost"
    alternatives: tuple[Learner, ...] = ()
    trees: Annotated[int, Field(ge=1, le=5000)] = 300
    depth: Annotated[int, Field(ge=1, le=12)] = 4
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.03
    row_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    column_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    min_child_weight: Annotated[float, Field(ge=0)] = 1.0
    l2: Annotated[float, Field(ge=0)] = 1.0
    newest_rows: Annotated[int, Field(ge=500)] | None = None

    def __str__(self) -> str:
        fields = self.model_dump(exclude={"alternatives"})
        return ", ".join(f"{name} {value}" for name, value in fields.items())

    @property
    def learners(self) -> tuple[Learner, ...]:
        """The learner and its alternatives, each once."""
        return tuple(dict.fromkeys((self.learner, *self.alternatives)))


class Watching(Section):
    """Thresholds of drift; `offers.drift.reference.Watch` explains each key."""

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
    """How a weight of the dynamic layer moves: its long-run standard deviation in log-odds, and its memory in rows."""

    spread: Annotated[float, Field(gt=0, le=10)]
    memory: Annotated[float, Field(ge=1)]


class Dynamics(Section):
    """The layer that learns between trainings, for a contract with time order; `offers.model.layer` has its formulas.

    `fast` and `slow` are the walks of the two parts of its level, `columns` that of its other weights, and `offset`
    that of what is added to the mean of trees and layer. The layer learns `batch` rows at a time, and its part of a
    margin is at most `share`. `dynamics: none` leaves it out.
    """

    fast: Walk = Walk(spread=0.5, memory=500)
    slow: Walk = Walk(spread=2.0, memory=30_000)
    columns: Walk = Walk(spread=0.3, memory=10_000)
    offset: Walk = Walk(spread=0.5, memory=500)
    batch: Annotated[int, Field(ge=20, le=5000)] = 250
    share: Annotated[float, Field(ge=0, le=0.5)] = 0.5


class Retraining(Section):
    """When models are trained again; `offers.monitoring.two_of_three` has the rule.

    At least `cool_down` rows are scored between two trainings, and `patience` rows where labels show no harm.
    Performance is judged by at least `labels` matured labels, at least `outcomes` of each outcome, and at most by the
    `newest` ones. A training waits for `labels` labels that the model has not learnt from. `surprise` is the distance
    from what the scores promise, in standard deviations, that counts as a breach.
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
        # Contracts inside bundles of version 0.1 may have these keys, from the time when recalibration did what the
        # layer does now.
        return (
            {key: value for key, value in content.items() if key not in _OLD_KEYS}
            if isinstance(content, dict)
            else content
        )


Metric = Literal["auc", "average_precision", "log_loss", "brier", "ece", "ks", "lift", "precision", "recall", "f1"]


class GateRule(Section):
    """One rule of the gate.

    `on` chooses the figure: pooled over all windows (or folds), of each window, or within periods. Above `ceiling` a
    figure is too good to be true. `better_than_chance` asks only a first model.
    """

    metric: Metric
    on: Literal["pooled", "each_window", "within_period"] = "pooled"
    at_least: float | None = None
    at_most: float | None = None
    ceiling: float | None = None
    better_than_chance: bool = False
    better_than_baseline: bool = False
    not_worse_than_champion_by: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        thresholds = (self.at_least, self.at_most, self.ceiling, self.not_worse_than_champion_by)
        if all(value is None for value in thresholds) and not (self.better_than_chance or self.better_than_baseline):
            keys = "at_least, at_most, ceiling, better_than_chance, better_than_baseline, not_worse_than_champion_by"
            yield (), f"a rule needs one of {keys}"
        if self.on != "pooled" and (self.better_than_baseline or self.not_worse_than_champion_by is not None):
            yield ("on",), "comparisons with the baseline or the champion are made on pooled figures"
        if self.better_than_chance and self.on != "within_period":
            yield ("on",), f"better_than_chance asks for the AUC within periods, so on: within_period, not {self.on}"
        if self.on == "within_period" and self.metric != "auc":
            yield ("metric",), f"within periods only the auc is measured, not {self.metric}"


class ApprovalSettings(Section):
    """Who approves a release: the gate alone, or `people` people as well, whose approvals hold for `days` days."""

    by: Literal["people", "gate"] = "people"
    people: Annotated[int, Field(ge=1, le=9)] = 2
    days: Annotated[int, Field(ge=1, le=3650)] = 365


class Challenge(Section):
    """The comparison of a challenger with the model that serves, on the newest `rows` matured rows.

    `auc` (within periods), `log_loss` and `ece` say by how much the challenger may be worse in each; its log-loss also
    by `chance` standard errors of the paired difference. It is refused where there are fewer than `fewest` rows.
    """

    rows: Annotated[int, Field(ge=100)] = 2000
    fewest: Annotated[int, Field(ge=50)] = 200
    auc: Annotated[float, Field(ge=0)] = 0.01
    log_loss: Annotated[float, Field(ge=0)] = 0.0
    chance: Annotated[float, Field(ge=0, le=2)] = 0.5
    ece: Annotated[float, Field(ge=0)] = 0.02


class Simulation(Section):
    """The simulated world: its acceptance rate, and the standard deviations of customers and of periods, in logits."""

    rows: Annotated[int, Field(ge=100)] = 40000
    base_rate: Share = 0.1
    customer_spread: Annotated[float, Field(ge=0)] = 1.0
    period_spread: Annotated[float, Field(ge=0)] = 0.0
    periods: Annotated[int, Field(ge=1)] = 12
