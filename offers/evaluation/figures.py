"""The results of an evaluation as records, which the gate, the report, the bundle and the model card read."""

from offers.record import Record

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})


class _Result(Record, extra="ignore"):
    """A record in a bundle that another version may have written, so unknown fields are ignored."""


class Figure(_Result):
    """A measured value with its 95 % percentile bootstrap interval, if resamples were drawn."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value:.3f}{interval}"


class Scores(_Result):
    """Quality of the propensities of some rows. Figures that can't be computed (one outcome only) are absent."""

    rows: int
    positive_rate: float
    mean_propensity: float
    lift_ceiling: float
    figures: dict[str, Figure]

    def __getitem__(self, metric: str) -> Figure:
        return self.figures[metric]


class Window(_Result):
    """One out-of-time window."""

    name: str
    first_period: str
    last_period: str
    model: Scores
    baseline: Scores


class Candidate(_Result):
    """A learner that the search tried, with its best settings: its quality in all windows, and AUC in each of them."""

    learner: str
    settings: str
    scores: Scores
    windows: tuple[float | None, ...]


class Segment(_Result):
    column: str
    value: str
    scores: Scores


class Group(_Result):
    """A protected group at the operating point. A figure without rows to measure it on is None, not 0."""

    value: str
    rows: int
    positive_rate: float
    mean_propensity: float
    selection_rate: float
    precision: float | None
    recall: float | None


class Fairness(_Result):
    """Fairness of the score for one protected column, over groups that are large enough to measure.

    `without_recall` lists the groups without acceptances, which the difference in recall leaves out.
    """

    column: str
    groups: tuple[Group, ...]
    left_out: tuple[str, ...]
    without_recall: tuple[str, ...] = ()
    selection_ratio: float | None
    recall_difference: float | None


class ColumnDrift(_Result):
    """Population stability index of each window against the rows before the first window."""

    column: str
    expected: bool
    psi: tuple[float, ...]


class ColumnPower(_Result):
    """How well a column alone predicts, and its share of the booster's gain: a hint where leakage may be."""

    column: str
    gain_share: float
    auc: float | None


class Dependence(_Result):
    """The mean propensity at values of a column, and the share of the rows that have such a value.

    The values are `words` of a category or boolean, or `numbers` in rising order; the other tuple is empty. `missing`
    is the mean propensity without a value; it is None where no row lacks one.
    """

    column: str
    words: tuple[str, ...]
    numbers: tuple[float, ...]
    propensity: tuple[float, ...]
    share: tuple[float, ...]
    missing: float | None
    missing_share: float


class Duel(_Result):
    """Challenger minus the serving model, on the newest matured rows, which none of the scoring models had seen.

    `auc` only compares an acceptance with a refusal of the same period, so a model gains nothing by following the
    level; it is None where no period has both outcomes. Lower is better for `log_loss` and `ece`. `log_loss_error` is
    the standard error of the paired difference in log-loss; older versions did not measure it.
    """

    rows: int
    auc: Figure | None
    log_loss: Figure
    log_loss_error: float = 0.0
    ece: Figure


class Comparison(_Result):
    """The champion on the same rows, and challenger minus champion; the gate judges by `newest`."""

    champion: str
    scores: Scores
    differences: dict[str, Figure]
    newest: Duel | None = None


class Change(_Result):
    """What an update has changed, as words before and after it."""

    what: str
    before: str
    after: str


class Evaluation(_Result):
    """Everything that the gate, the report and the model card need.

    Older versions measured neither `random_baseline`, the logistic baseline on the random split, nor `dependences`,
    those on the columns that matter most, nor `within_period_chance`, below which 95 % of random scores stay.
    `candidates` compares learners, the model's own first, where the search tried several. `changes` tells what an
    update has changed in its parent.
    """

    contract: str
    scheme: str
    rows: int
    model: Scores
    baseline: Scores
    windows: tuple[Window, ...]
    within_period_auc: float | None
    within_period_chance: float | None = None
    random_split: Scores
    random_baseline: Scores | None = None
    segments: tuple[Segment, ...]
    fairness: tuple[Fairness, ...]
    drift: tuple[ColumnDrift, ...]
    columns: tuple[ColumnPower, ...]
    dependences: tuple[Dependence, ...] = ()
    champion: Comparison | None
    candidates: tuple[Candidate, ...] = ()
    changes: tuple[Change, ...] = ()
