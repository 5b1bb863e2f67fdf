"""The report of one window of scored rows, compared with the reference."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from offers.drift.reference import Kind, List

Test = Literal["ks", "chi squared", "share", "other"]
Counts = tuple[int, ...]


@dataclass(frozen=True)
class ShareReport:
    """The share of one value, or of missing cells, in window and reference; `breached` judges this window alone."""

    label: str
    count: int
    share: float
    reference_count: int
    reference_share: float
    p_value: float | None
    suspect: bool
    breached: bool


@dataclass(frozen=True)
class ColumnReport:
    """One column of a window. `ks` is for numbers, `cramers_v` for categories; None where nothing can be compared.

    `suspect` and `distribution_breached` judge the column's distribution, and `breached` the distribution or any share,
    all in this window alone. `counts` are rows per bin between the reference's deciles, or per label, without missing
    cells.
    """

    name: str
    kind: Kind
    list: List
    p_value: float | None
    ks: float | None
    cramers_v: float | None
    psi: float
    psi_noise: float
    missing: float
    reference_missing: float
    unseen: float
    counts: Counts
    reference_counts: Counts
    shares: tuple[ShareReport, ...]
    suspect: bool
    distribution_breached: bool
    breached: bool

    @property
    def distance(self) -> float | None:
        """How far the column is from the reference: `ks` of a number, `cramers_v` of a category."""
        return self.cramers_v if self.ks is None else self.ks


@dataclass(frozen=True)
class RateReport:
    """A mean propensity, or an acceptance rate, with its 95 % interval, and the reference's."""

    rate: float
    low: float
    high: float
    reference: float
    p_value: float | None
    suspect: bool
    breached: bool


@dataclass(frozen=True)
class ScoreReport:
    """The distribution of the propensities, and their mean; `counts` are rows between the reference's deciles."""

    p_value: float
    ks: float
    psi: float
    psi_noise: float
    counts: Counts
    reference_counts: Counts
    suspect: bool
    breached: bool
    rate: RateReport


@dataclass(frozen=True)
class Finding:
    """One tested quantity of a window. `reason` is the sentence to show if it has drifted.

    `p_value` is None where there was no test. `counts` and `reference_counts` are rows per bin, per label, or with and
    without one value; they are summed to test several windows together. For the share of one value, `part_of` names
    the finding about the whole column.
    """

    signal: str
    name: str
    test: Test
    p_value: float | None
    suspect: bool
    rises: bool
    reason: str
    counts: Counts = ()
    reference_counts: Counts = ()
    part_of: str = ""


def outlined(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Drop findings about single values of a column that is itself among the findings."""
    by_name = {finding.name: finding for finding in findings}
    return (finding for finding in by_name.values() if finding.part_of not in by_name)


@dataclass(frozen=True)
class WindowReport:
    """The report of one window. Its flags judge this window alone; a `Streak` says whether drift has lasted."""

    bundle: str
    rows: int
    reference_rows: int
    columns: tuple[ColumnReport, ...]
    score: ScoreReport
    attribution: float | None
    attribution_breached: bool

    @property
    def data_breached(self) -> bool:
        return any(column.breached for column in self.of_list("watched"))

    @property
    def score_breached(self) -> bool:
        return self.score.breached

    @property
    def rate_breached(self) -> bool:
        return self.score.rate.breached

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each quantity that has drifted, judged by this window alone."""
        breached = {"_score": self.score_breached, "_rate": self.rate_breached}
        breached |= {"_attribution": self.attribution_breached}
        for column in self.of_list("watched"):
            breached[column.name] = column.distribution_breached
            breached |= {f"{column.name}={share.label}": share.breached for share in column.shares}
        return tuple(finding.reason for finding in outlined(f for f in self.findings() if breached[f.name]))

    def of_list(self, name: List) -> tuple[ColumnReport, ...]:
        return tuple(column for column in self.columns if column.list == name)

    def findings(self) -> Iterator[Finding]:
        """Yield every tested quantity that may raise an alarm."""
        for column in self.of_list("watched"):
            yield from _column_findings(column, self.rows, self.reference_rows)
        yield _score_finding(self.score)
        rate = self.score.rate
        rises = rate.rate > rate.reference
        yield Finding("rate", "_rate", "other", rate.p_value, rate.suspect, rises, _rate_reason(rate))
        order = f"the features' importance has changed its order, NDCG {_figure(self.attribution)}"
        yield Finding("attribution", "_attribution", "other", None, self.attribution_breached, True, order)

    def to_dict(self) -> dict[str, Any]:
        """Convert everything for JSON."""
        flags = ("data_breached", "score_breached", "rate_breached")
        return asdict(self) | {flag: getattr(self, flag) for flag in flags} | {"reasons": list(self.reasons)}


def _score_finding(score: ScoreReport) -> Finding:
    reason = f"the propensities are {_figure(score.ks)} (KS distance) from the reference, PSI {_figure(score.psi)}"
    counts, before = score.counts, score.reference_counts
    return Finding("score", "_score", "ks", score.p_value, score.suspect, True, reason, counts, before)


def _column_findings(column: ColumnReport, rows: int, reference_rows: int) -> Iterator[Finding]:
    numeric = column.kind == "number"
    measure, distance = ("KS distance", column.ks) if numeric else ("Cramér's V", column.cramers_v)
    yield Finding(
        "data",
        column.name,
        "ks" if numeric else "chi squared",
        column.p_value,
        column.suspect,
        True,
        f"{column.name} is {_figure(distance)} ({measure}) from the reference, PSI {_figure(column.psi)}",
        column.counts,
        column.reference_counts,
    )
    for share in column.shares:
        yield Finding(
            "data",
            f"{column.name}={share.label}",
            "share",
            share.p_value,
            share.suspect,
            share.share > share.reference_share,
            f"{column.name}: {share.label} in {share.share:.1%} of rows, {share.reference_share:.1%} in the reference",
            (share.count, rows - share.count),
            (share.reference_count, reference_rows - share.reference_count),
            part_of=column.name,
        )


def _rate_reason(rate: RateReport) -> str:
    interval = f"{rate.low:.1%} to {rate.high:.1%}"
    return f"the mean propensity is {rate.rate:.1%} ({interval}), {rate.reference:.1%} in the reference"


def _figure(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"
