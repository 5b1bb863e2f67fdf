"""Compares the arms of an experiment, with the customer as the unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from offers.experiments.assignment import CONTROL
from offers.experiments.confidence import radius

FEWEST = 200
"""Customers of an arm, or of a group, below which nothing is concluded."""
MISMATCH = 0.001
"""p-value below which arms do not have the customers that they should have, or are not alike before the experiment."""
MORE_FALLBACKS, LEAST_EXPOSURE, SLOWER = 0.01, 0.8, (1.2, 5.0)
"""Limits of the guardrails: by how much an arm's share of answers without its predictor may be above the control's; the
exposure of the group that is least exposed against the one that is most, as far as the control keeps to it; by which
factor, and by how many milliseconds, the arm's predictor may be slower: only both together fail."""

Verdict = Literal["better", "worse", "open", "too few"]
Passage = Literal["passes", "fails", "too few"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval, which stays valid however often one looks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Guardrail:
    """A figure that an arm must not worsen; it is NaN where there are too few customers. A `unit` of "" is a share."""

    name: str
    arm: float
    control: float
    verdict: Passage
    unit: Literal["", "ms"] = ""


@dataclass(frozen=True)
class ArmResult:
    """An arm compared with the control.

    Attributes
    ----------
    customers : number of customers whose outcomes are known
    conversion : share of them who accepted
    earned : earnings in EUR per customer
    conversion_more : conversion minus the control's
    earned_more : earnings minus the control's, in EUR per customer; by CUPED where `spared` is above 0
    lift : relative difference of conversion; NaN where the control has no conversion
    spared : share of the variance that CUPED removes, in [0, 1]
    """

    name: str
    customers: int
    conversion: float
    earned: float
    conversion_more: Interval
    earned_more: Interval
    lift: Interval
    spared: float
    verdict: Verdict
    guardrails: tuple[Guardrail, ...]


@dataclass(frozen=True)
class Comparison:
    """All arms. `counts` are their customers; `mismatch` is the p-value of the test that these fit the shares."""

    counts: Mapping[str, int]
    mismatch: float
    control: tuple[int, float, float]
    arms: tuple[ArmResult, ...]

    @property
    def mismatched(self) -> bool:
        """Whether the numbers of customers contradict the shares, so that no other figure can be trusted."""
        return self.mismatch < MISMATCH


def compare(
    customers: pd.DataFrame,
    shares: Mapping[str, float],
    protected: Sequence[str] = (),
    assigned: Mapping[str, int] | None = None,
) -> Comparison:
    """Compare each arm with the control.

    Parameters
    ----------
    customers : one row each, with `arm`, `converted` (0, 1, NaN not known yet), `earned` (EUR), `covariate` (NaN where
        there is none), `decisions`, `fallbacks`, `exposed`, `latency` (milliseconds, NaN where nobody took it), and a
        column of groups for each of `protected`
    shares : share of each arm by name, including the control's
    assigned : number of customers in the log, by the arm that the shares assign them to; it is held against the shares
        whatever shares were before, where customers who were in two arms are left out of `customers`; by default
        those in `customers`
    """
    counts = {name: int((customers["arm"] == name).sum()) for name in shares}
    members = counts if assigned is None else assigned
    ripe = customers[customers["converted"].notna()]
    control = ripe[ripe["arm"] == CONTROL]
    arms = tuple(_arm(name, customers, control, protected) for name in shares if name != CONTROL)
    summary = (len(control), _mean(control["converted"]), _mean(control["earned"]))
    p_value = mismatch([members[name] for name in shares], list(shares.values()))
    return Comparison(counts, p_value, summary, arms)


def mismatch(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Test by chi-squared whether the arms' numbers of customers fit their shares; p is 1 without customers."""
    expected = np.array(shares) / sum(shares) * sum(counts)
    there = expected > 0
    if not there.any():
        return 1.0
    chi2 = float(((np.array(counts) - expected)[there] ** 2 / expected[there]).sum())
    return float(stats.chi2.sf(chi2, int(there.sum()) - 1)) if there.sum() > 1 else 1.0


def adjusted(values: np.ndarray, covariate: np.ndarray, is_arm: np.ndarray) -> tuple[np.ndarray, float]:
    """Remove the part of values that a covariate from before the experiment explains (CUPED, Deng et al. 2013).

    Returns
    -------
    ndarray, float
        the adjusted values, and the share of their variance that was removed. The share is 0, and values stay as they
        are, where there is no covariate, or where the arms differ in it: then the arm itself has changed it.
    """
    if np.isnan(covariate).all():
        return values, 0.0
    centred = np.nan_to_num(covariate - np.nanmean(covariate))
    here, there = centred[is_arm], centred[~is_arm]
    error = np.sqrt(here.var() / len(here) + there.var() / len(there))
    if error == 0 or 2 * stats.norm.sf(abs(here.mean() - there.mean()) / error) < MISMATCH:
        return values, 0.0
    within = centred - np.where(is_arm, here.mean(), there.mean())
    rest = values - (within @ values) / (within @ within) * centred
    before = values[is_arm].var() + values[~is_arm].var()
    spared = 1 - (rest[is_arm].var() + rest[~is_arm].var()) / before if before else 0.0
    return (rest, float(spared)) if spared > 0 else (values, 0.0)


def _arm(name: str, everybody: pd.DataFrame, control: pd.DataFrame, protected: Sequence[str]) -> ArmResult:
    arm = everybody[(everybody["arm"] == name) & everybody["converted"].notna()]
    both = pd.concat([arm, control])
    is_arm = np.arange(len(both)) < len(arm)
    few = min(len(arm), len(control)) < FEWEST
    earned, spared = (both["earned"].to_numpy(np.float64), 0.0)
    if not few:
        earned, spared = adjusted(earned, both["covariate"].to_numpy(np.float64), is_arm)
    converted = _difference(both["converted"].to_numpy(np.float64), is_arm)
    more, base = _difference(earned, is_arm), _mean(control["converted"])
    lift = Interval(*(np.array([converted.value, converted.low, converted.high]) / (base or np.nan)).tolist())
    verdict: Verdict = "too few" if few else "better" if more.low > 0 else "worse" if more.high < 0 else "open"
    rails = (
        _fallbacks(everybody, name),
        _latency(everybody, name),
        *(_exposure(everybody, name, column) for column in protected),
    )
    means = (_mean(arm["converted"]), _mean(arm["earned"]))
    return ArmResult(name, len(arm), *means, converted, more, lift, spared, verdict, rails)


def _difference(values: np.ndarray, is_arm: np.ndarray) -> Interval:
    here, there = values[is_arm], values[~is_arm]
    if min(len(here), len(there)) < 2:
        return Interval(np.nan, np.nan, np.nan)
    value = float(here.mean() - there.mean())
    width = float(radius(here.var(ddof=1) / len(here) + there.var(ddof=1) / len(there), len(values)))
    return Interval(value, value - width, value + width)


def _fallbacks(everybody: pd.DataFrame, name: str) -> Guardrail:
    title, parts = "answers without its predictor", [everybody[everybody["arm"] == one] for one in (name, CONTROL)]
    if min(map(len, parts)) < FEWEST:
        return Guardrail(title, np.nan, np.nan, "too few")
    arm, control = (float(part["fallbacks"].sum() / part["decisions"].sum()) for part in parts)
    return Guardrail(title, arm, control, "fails" if arm > control + MORE_FALLBACKS else "passes")


def _latency(everybody: pd.DataFrame, name: str) -> Guardrail:
    title, parts = (
        "95th percentile of its predictor's latency",
        [everybody.loc[everybody["arm"] == one, "latency"].dropna() for one in (name, CONTROL)],
    )
    if min(map(len, parts)) < FEWEST:
        return Guardrail(title, np.nan, np.nan, "too few", "ms")
    arm, control = (float(part.quantile(0.95)) for part in parts)
    factor, more = SLOWER
    return Guardrail(title, arm, control, "fails" if arm > max(control * factor, control + more) else "passes", "ms")


def _exposure(everybody: pd.DataFrame, name: str, column: str) -> Guardrail:
    title, ratios = f"exposure by {column}", list[float]()
    for one in (name, CONTROL):
        groups = everybody[everybody["arm"] == one].groupby(column, observed=True)["exposed"].agg(["mean", "size"])
        large = groups[groups["size"] >= FEWEST]["mean"]
        if len(large) < 2:
            return Guardrail(title, np.nan, np.nan, "too few")
        ratios.append(float(large.min() / large.max()) if large.max() else 1.0)
    arm, control = ratios
    return Guardrail(title, arm, control, "fails" if arm < min(LEAST_EXPOSURE, control) else "passes")


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else np.nan
