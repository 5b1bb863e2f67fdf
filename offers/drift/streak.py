"""Drift that lasts: counts how many windows in a row are suspect, and decides when that is an alarm."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from offers.drift import significance
from offers.drift import statistics as drift
from offers.drift.reference import Watch
from offers.drift.window import Counts, Finding, Test, WindowReport, outlined
from offers.errors import DataError

SIGNALS = ("data", "score", "rate", "attribution")


@dataclass(frozen=True)
class Run:
    """A run of consecutive suspect windows for one tested quantity: how many, and the pooled p-value and counts."""

    windows: int
    p_value: float
    rises: bool
    counts: Counts = ()

    @classmethod
    def of(cls, finding: Finding, before: "Run | None") -> "Run":
        """Extend the run before by this finding, or begin a new run."""
        if before is None or before.rises != finding.rises or len(before.counts) != len(finding.counts):
            return cls(1, finding.p_value or 0.0, finding.rises, finding.counts)
        counts = tuple(a + b for a, b in zip(before.counts, finding.counts, strict=True))
        together = _p_value(finding.test, finding.reference_counts, counts)
        # Where counts can't be pooled, the run is as certain as its least certain window.
        p_value = max(before.p_value, finding.p_value or 0.0) if together is None else together
        return cls(before.windows + 1, p_value, finding.rises, counts)


@dataclass(frozen=True)
class Streak:
    """Each tested quantity's run of suspect windows, and the signals that are an alarm after the latest window.

    Examples
    --------
    >>> from offers.contract.sections import Watching
    >>> streak = Streak(Watch(**Watching().model_dump()))
    >>> streak.alarm, streak.signals["data"]
    (False, False)
    """

    watch: Watch
    bundle: str = ""
    runs: Mapping[str, Run] = field(default_factory=dict)
    alarms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def alarm(self) -> bool:
        return bool(self.alarms)

    @property
    def signals(self) -> dict[str, bool]:
        return {signal: signal in self.alarms for signal in SIGNALS}

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(reason for reasons in self.alarms.values() for reason in reasons)

    def after(self, report: WindowReport) -> "Streak":
        """Return the streak after one more window; a window of another bundle begins a new streak."""
        before = self.runs if report.bundle == self.bundle else {}
        findings = list(report.findings())
        runs = {finding.name: Run.of(finding, before.get(finding.name)) for finding in findings if finding.suspect}
        alarms: dict[str, tuple[str, ...]] = {}
        for finding in outlined(self._alarming(findings, runs)):
            reason = f"{finding.reason}; {runs[finding.name].windows} windows in a row"
            alarms[finding.signal] = (*alarms.get(finding.signal, ()), reason)
        return replace(self, bundle=report.bundle, runs=runs, alarms=alarms)

    def to_dict(self) -> dict[str, Any]:
        """Convert everything except the thresholds for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "watch"}

    @classmethod
    def from_dict(cls, watch: Watch, content: Mapping[str, Any]) -> "Streak":
        """Read the result of `to_dict`, before or after JSON.

        Raises
        ------
        DataError
            the content is not what this version writes
        """
        try:
            runs = {name: Run(**run | {"counts": tuple(run["counts"])}) for name, run in content["runs"].items()}
            alarms = {signal: tuple(reasons) for signal, reasons in content["alarms"].items()}
            return cls(watch, content["bundle"], runs, alarms)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"the streak is not one that this version writes ({error!r}); begin a new one") from None

    def _alarming(self, findings: list[Finding], runs: Mapping[str, Run]) -> Iterator[Finding]:
        """Yield findings whose run is long enough, and significant among all tests."""
        lasting = [
            run if (run := runs.get(finding.name)) and run.windows >= self.watch.consecutive else None
            for finding in findings
        ]
        # Findings without a long run enter as 1.0, not as gaps: every test counts for the false-discovery rate, or the
        # selection of the long runs would itself inflate it. NaN stands for findings that were never tested.
        p_values = [
            np.nan if finding.p_value is None else run.p_value if run else 1.0
            for finding, run in zip(findings, lasting, strict=True)
        ]
        beyond = significance.false_discovery(p_values, self.watch.false_discovery_rate)
        for finding, run, far in zip(findings, lasting, beyond, strict=True):
            if run and (far or finding.p_value is None):
                yield finding


def _p_value(test: Test, reference: Counts, counts: Counts) -> float | None:
    """Compute the p-value of a run's pooled windows; None where their counts can't be pooled."""
    if test == "ks":
        return float(
            significance.ks_p_value(drift.ks_distance_of_counts(reference, counts), sum(reference), sum(counts))
        )
    if test == "chi squared":
        return significance.chi_squared_p_value(reference, counts)
    if test == "share":
        return float(significance.share_p_values(reference[0], sum(reference), counts[0], sum(counts)))
    return None
