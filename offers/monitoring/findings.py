"""The findings on live decisions as records, which the verdict, the report and the status read."""

from datetime import datetime
from typing import Any, Literal

from offers.evaluation.figures import Fairness, Scores
from offers.record import Record


class Fault(Record):
    """A rule of the contract that scored rows break."""

    column: str
    expected: str
    rows: int


class ColumnQuality(Record):
    """Quality of a column, as shares of rows in [0, 1]; `usual` is the missing share in the reference rows."""

    column: str
    missing: float
    usual: float
    unseen: float


class RowQuality(Record):
    """Faults of the rows that arrived, as numbers of rows.

    `repeated` and `repeated_outcomes` were delivered more than once. `others` are decisions of other bundles. `orphans`
    are outcomes without a decision, and `too_early` outcomes from before their decision. For `differing` rows the
    bundle gives another propensity than the one that was acted on.
    """

    rows: int
    repeated: int
    others: dict[str, int]
    broken: int
    faults: tuple[Fault, ...]
    columns: tuple[ColumnQuality, ...]
    differing: int
    outcomes: int
    repeated_outcomes: int
    orphans: int
    too_early: int


class Day(Record):
    day: str
    rows: int


class Volume(Record):
    """Decisions of all bundles per day (UTC).

    `silent` days had no decisions; `unusual` days had less than half or more than twice the median.
    """

    days: tuple[Day, ...]
    median: float
    silent: tuple[str, ...]
    unusual: tuple[str, ...]


class DriftWindow(Record):
    """A window of rows compared with the reference; `report` is an `offers.drift.window.WindowReport` as a dict."""

    first: datetime
    last: datetime
    report: dict[str, Any]


class Drift(Record):
    """Windows in time order, and the signals that are an alarm after the last window.

    `signals` are None when there are fewer windows than an alarm needs. `left_out` counts the rows before the first
    window.
    """

    windows: tuple[DriftWindow, ...]
    size: int
    consecutive: int
    left_out: int
    signals: dict[str, bool | None]
    reasons: tuple[str, ...]


class Labels(Record):
    """Numbers of the bundle's decisions by the state of their labels.

    `mature` counts decisions whose label has matured since the period began, and `labelled` those of them with an
    outcome. `since_training` counts all labelled decisions, also from before the period.
    """

    matures_after_days: float
    immature: int
    mature: int
    labelled: int
    accepted: int
    since_training: int

    @property
    def unlabelled(self) -> int:
        return self.mature - self.labelled


class Surprise(Record):
    """A figure, its expectation by the propensities, their distance in standard deviations, and its p-value."""

    observed: float
    expected: float
    z: float
    p: float


class Performance(Record):
    """The performance of the propensities on mature decisions, and the gate's figures."""

    scores: Scores
    at_the_gate: Scores
    rate: Surprise
    log_loss: Surprise
    fairness: tuple[Fairness, ...]
    fairness_unknown: tuple[str, ...]


class Promise(Record):
    """An `offers.monitoring.promise.PromiseCheck` as a record: whether the newest labels fit the propensities."""

    labels: int
    breached: bool | None
    ranks_hold: bool | None
    level: float | None
    ranks: float | None
    reasons: tuple[str, ...]


class Findings(Record):
    """All measurements of a monitoring run.

    `since_training` counts the bundle's decisions that were read; with outcomes these are all its decisions.
    `selection` encodes which reference rows the catalogue's rules let pass; see `offers.drift.selection`.
    """

    contract: str
    bundle: str
    since: datetime | None
    until: datetime
    as_of: datetime
    quality: RowQuality
    volume: Volume
    drift: Drift
    labels: Labels
    performance: Performance | None
    promise: Promise
    since_training: int
    selection: str = ""


class Monitoring(Record):
    """Findings, the three signals, and the action that they call for: none, update or retrain."""

    findings: Findings
    signals: dict[str, bool | None]
    action: Literal["none", "update", "retrain"]
    reasons: tuple[str, ...]

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to do and no signal is an alarm."""
        return self.action == "none" and not any(self.signals.values())
