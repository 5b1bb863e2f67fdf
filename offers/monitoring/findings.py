"""What a look at live decisions finds, as records: the verdict, the report and the status read them."""

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
    """Shares of the rows, in [0, 1]; `usual` are missing in the bundle's reference rows."""

    column: str
    missing: float
    usual: float
    unseen: float


class RowQuality(Record):
    """What is wrong with the rows that arrived.

    `repeated` and `repeated_outcomes` were delivered again, `others` are decisions of other bundles, `orphans` outcomes
    without a decision, `too_early` outcomes from before their decision, and `differing` rows to which the bundle gives
    another propensity than the one that was acted on.
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
    """Decisions per day (UTC), of all bundles; `silent` days had none, `unusual` ones less than half or over twice."""

    days: tuple[Day, ...]
    median: float
    silent: tuple[str, ...]
    unusual: tuple[str, ...]


class DriftWindow(Record):
    """A window of rows held against the reference: `report` is `offers.drift.examination.WindowReport` as a dict."""

    first: datetime
    last: datetime
    report: dict[str, Any]


class Drift(Record):
    """Windows in the order of time, and the signals that are an alarm since the last one.

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
    """Decisions of the bundle by what is known of their outcome.

    `mature` are those whose label has matured since the period began, `labelled` those of them with an outcome;
    `since_training` are all labelled ones, before the period as well.
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
    """A figure beside what the propensities themselves expect of it, the distance in standard deviations and its p."""

    observed: float
    expected: float
    z: float
    p: float


class Performance(Record):
    """How the propensities of mature decisions did, and what the gate had seen."""

    scores: Scores
    at_the_gate: Scores
    rate: Surprise
    log_loss: Surprise
    fairness: tuple[Fairness, ...]
    fairness_unknown: tuple[str, ...]


class Promise(Record):
    """`offers.monitoring.promise.PromiseCheck`: whether the newest labels are what the propensities promised."""

    labels: int
    breached: bool | None
    ranks_hold: bool | None
    level: float | None
    ranks: float | None
    reasons: tuple[str, ...]


class Findings(Record):
    """Everything that a monitoring run has measured.

    `since_training` are the bundle's decisions that were read: where outcomes are given, all that it has made.
    `selection` tells which rows of the reference the catalogue's rules let pass; see `offers.drift.selection`.
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
    """Findings, the three signals, and what they ask for: none, update or retrain."""

    findings: Findings
    signals: dict[str, bool | None]
    action: Literal["none", "update", "retrain"]
    reasons: tuple[str, ...]

    @property
    def quiet(self) -> bool:
        """Whether nothing is asked for and no signal is an alarm."""
        return self.action == "none" and not any(self.signals.values())
