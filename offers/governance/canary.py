"""A canary: a promotion by steps. The decision log tells after each look whether it goes on, waits, or ends."""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from offers.decisions.period import Period, span
from offers.errors import DataError, LedgerError, SourceError
from offers.experiments.assignment import CONTROL, positions
from offers.experiments.comparison import FEWEST, ArmResult, Comparison, Guardrail, compare
from offers.experiments.experiment import CANARY
from offers.experiments.members import members
from offers.governance.entries import CanaryPlan, CanaryStepped, Promoting
from offers.governance.state import Line
from offers.store.delta import DeltaTables
from offers.wording import counted

CHALLENGER = "challenger"
_MOST_LOOKS = 20
"""Looks at the log in the shortest time of a step."""


@dataclass(frozen=True)
class Canary:
    """A canary that is under way.

    Attributes
    ----------
    name : of its experiment in the decision log; each promotion has its own
    steps : share of each step until now, and the moment when it began
    """

    release: str
    name: str
    plan: CanaryPlan
    steps: tuple[tuple[float, datetime], ...]

    @property
    def share(self) -> float:
        """The share of the customers whom the release answers; 0 before the first step."""
        return self.steps[-1][0] if self.steps else 0.0

    @property
    def next_share(self) -> float:
        """The share of the next step."""
        return (*self.plan.shares, 1.0)[len(self.steps)]

    def rests(self, moment: datetime) -> bool:
        """Whether the present step has not lasted long enough."""
        return moment < self.steps[-1][1] + timedelta(seconds=self.plan.seconds)


@dataclass(frozen=True)
class Judgement:
    """What the decision log says of a canary: `harm` ends it, and it may go on if it has `enough` customers."""

    harm: str
    enough: bool
    evidence: str


def canary_of(line: Line) -> Canary | None:
    """Find the canary of a promotion that is under way; None where there is none."""
    promoting = line.promoting
    if promoting is None or not isinstance(promoting.act, Promoting) or promoting.act.canary is None:
        return None
    steps = tuple((entry.act.share, entry.at) for entry in line.steps if isinstance(entry.act, CanaryStepped))
    return Canary(promoting.act.release, f"{CANARY}{promoting.number}", promoting.act.canary, steps)


def plan(steps: str, bake: str, customers: int, outcomes: int) -> CanaryPlan:
    """Read the settings of a canary.

    Parameters
    ----------
    steps : shares in percent, such as 5,25,50
    bake : the shortest time of a step, such as 1h
    customers, outcomes : as `CanaryPlan` has them

    Raises
    ------
    LedgerError
        the shares do not rise, or there are fewer customers than a guardrail needs
    DataError
        the time can't be read
    """
    expected = f"--steps {steps!r}: expected percentages that rise, each between 0 and 100, such as 5,25,50"
    try:
        shares = tuple(float(part.strip().removesuffix("%")) / 100 for part in steps.split(","))
    except ValueError:
        raise LedgerError(expected) from None
    if not all(0 < before < after for before, after in pairwise((*shares, 1.0))) or len(shares) > 20:
        raise LedgerError(expected)
    if customers < FEWEST:
        raise LedgerError(f"--customers: expected {FEWEST} or more, which the guardrails need, got {customers}")
    return CanaryPlan(shares=shares, seconds=span(bake).total_seconds(), customers=customers, outcomes=outcomes)


def judge(tables: DeltaTables, canary: Canary, bundle: str, moment: datetime) -> Judgement:
    """Hold what is logged of a canary against its guardrails, by `offers.experiments`.

    Each step is compared by itself, since shares differ between steps and the time of day with them. Earlier steps are
    looked at again: their outcomes come late.

    Parameters
    ----------
    bundle : name of the release's bundle

    Raises
    ------
    StorageError
        the tables can't be read
    """
    ends = [began for _, began in canary.steps[1:]] + [moment]
    harm, last = list[str](), None
    for (share, began), end in zip(canary.steps, ends, strict=True):
        last = _compared(tables, canary.name, share, Period(began, end, moment), bundle)
        if last is not None:
            harm += [f"at {share:.0%}: {reason}" for reason in _harm(last)]
    if last is None:
        return Judgement("; ".join(harm), False, "no decision of this step is logged yet")
    (arm,) = last.arms
    fewest = min(last.counts.values()), min(arm.customers, last.control[0])
    enough = fewest[0] >= canary.plan.customers and fewest[1] >= canary.plan.outcomes
    return Judgement("; ".join(harm), enough, _evidence(last, arm))


class Looks:
    """Looks at the log of a canary from time to time, in a thread of its own, so that a rollback waits for no look."""

    def __init__(self, tables: DeltaTables) -> None:
        self._tables = tables
        self._pool = ThreadPoolExecutor(1)
        self._look: tuple[Canary, Future[Judgement]] | None = None
        self._last: datetime | None = None

    def __call__(self, canary: Canary, bundle: str, moment: datetime) -> Judgement | None:
        """Return the result of a look; None while there is none since the last. Raises what `judge` does."""
        if self._look is not None and self._look[1].done():
            subject, future = self._look
            self._look = None
            return future.result() if subject == canary else None
        pause = timedelta(seconds=min(max(canary.plan.seconds / _MOST_LOOKS, 1.0), 60.0))
        if self._look is None and (self._last is None or moment - self._last >= pause):
            self._last = moment
            self._look = (canary, self._pool.submit(judge, self._tables, canary, bundle, moment))
        return None


def _compared(tables: DeltaTables, name: str, share: float, period: Period, bundle: str) -> Comparison | None:
    try:
        found = members(tables, name, period, {CHALLENGER: bundle})
    except (DataError, SourceError):
        return None
    challenged = int((positions(name, found.everybody) < share).sum())
    assigned = {CONTROL: len(found.everybody) - challenged, CHALLENGER: challenged}
    return compare(found.customers, {CONTROL: 1 - share, CHALLENGER: share}, found.protected, assigned)


def _harm(comparison: Comparison) -> list[str]:
    (arm,) = comparison.arms
    reasons = [f"{rail.name}: {_values(rail)}" for rail in arm.guardrails if rail.verdict == "fails"]
    if arm.verdict == "worse":
        reasons.append(f"it earns less: {_earned(arm)}")
    if comparison.mismatched:
        reasons.append(f"customers are missing from the log of an arm (p = {comparison.mismatch:.2g})")
    return reasons


def _evidence(comparison: Comparison, arm: ArmResult) -> str:
    counts = " and ".join(f"{counted(n, 'customer')} of {name}" for name, n in comparison.counts.items())
    known = f"outcomes of {arm.customers} and {comparison.control[0]} known"
    rails = "; ".join(f"{rail.name} {rail.verdict}, {_values(rail)}" for rail in arm.guardrails)
    return f"{counts}; {known}; {_earned(arm)}; {rails}"


def _earned(arm: ArmResult) -> str:
    more = arm.earned_more
    if math.isnan(more.value):
        return "what it earns is not known yet"
    return f"{more.value:+.2f} EUR per customer ({more.low:+.2f} to {more.high:+.2f})"


def _values(rail: Guardrail) -> str:
    if rail.verdict == "too few":
        return "fewer customers than it needs"
    arm, control = (f"{value:.1f} {rail.unit}" if rail.unit else f"{value:.1%}" for value in (rail.arm, rail.control))
    return f"{arm} against the champion's {control}"
