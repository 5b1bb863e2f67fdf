"""Off-policy evaluation: estimates what a candidate policy would have earned from the decisions of another policy.

A customer's answer follows from the offer drawn for the first place, so the probabilities of the first place describe a
policy completely. The estimate is the difference to the policy that decided, on the same rows: most of the variation
between customers is in both and cancels out.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from offers.errors import DataError

Floats = NDArray[np.float64]
Method = Literal["ips", "snips", "dm", "dr", "switch_dr"]
METHODS: tuple[Method, ...] = ("ips", "snips", "dm", "dr", "switch_dr")
LEVEL = 0.95
SWITCH_AT = 5.0
"""Weight above which `switch_dr` believes the model instead of the outcome."""
FEW, HEAVY, UNSUPPORTED = 200.0, 10.0, 0.01
"""When to warn: effective sample below, largest weight above, share of candidate probability without support above."""


@dataclass(frozen=True)
class Logged:
    """Decisions, with the probabilities of both policies. The last action is to offer nothing.

    Attributes
    ----------
    customer : ndarray, shape (n,)
        the same for decisions about the same customer, which are not independent
    action : ndarray of int, shape (n,)
        the offer that was put first
    reward : ndarray, shape (n,), EUR
    incumbent, candidate : ndarray, shape (n, n_actions)
        probabilities of the first place; each row sums to 1
    expected : ndarray, shape (n, n_actions), EUR
        earnings that the model expects of each action

    Raises
    ------
    DataError
        shapes differ, probabilities do not sum to 1, or the incumbent took an action of probability 0
    """

    customer: NDArray[np.generic]
    action: NDArray[np.intp]
    reward: Floats
    incumbent: Floats
    candidate: Floats
    expected: Floats

    def __post_init__(self) -> None:
        n_rows = len(self.action)
        if n_rows == 0:
            raise DataError("off-policy evaluation: expected decisions, got none")
        if self.candidate.shape != self.incumbent.shape or self.expected.shape != self.incumbent.shape:
            raise DataError(f"off-policy evaluation: expected arrays of shape {self.incumbent.shape}")
        if not len(self.customer) == len(self.reward) == len(self.incumbent) == n_rows:
            raise DataError(f"off-policy evaluation: expected one row for each of {n_rows} decisions")
        for name, shares in (("incumbent", self.incumbent), ("candidate", self.candidate)):
            if not ((shares >= 0).all() and np.allclose(shares.sum(axis=1), 1, atol=1e-6)):
                raise DataError(f"off-policy evaluation: expected {name} probabilities that sum to 1 in each row")
        if not (_taken(self.incumbent, self.action) > 0).all():
            raise DataError("off-policy evaluation: expected a probability above 0 for each action that was taken")

    @property
    def weight(self) -> Floats:
        """Probability of the logged action under the candidate, divided by that under the incumbent, shape (n,)."""
        return _taken(self.candidate, self.action) / _taken(self.incumbent, self.action)

    @property
    def deterministic(self) -> bool:
        """Whether the incumbent explored nothing."""
        return bool((_taken(self.incumbent, self.action) > 1 - 1e-12).all())


@dataclass(frozen=True)
class Difference:
    """The candidate's earnings minus the incumbent's, in EUR per decision, with the 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "open"]:
        """The verdict by the interval: above 0, below 0, or neither."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "open"


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a candidate on logged decisions.

    Attributes
    ----------
    earned : the incumbent's earnings, EUR per decision
    differences : by method; empty where nothing was explored
    bounds : limits of the difference, EUR per decision, whatever the outcomes of offers that were not shown
    agreement : mean probability of the logged action under the candidate
    effective : effective sample size, (sum of weights)² / sum of squared weights
    largest_weight : largest weight of a decision
    unsupported : share of the candidate's probability on offers that the incumbent never makes to these customers
    price : cost of the logged exploration by the model's expectation, EUR per decision
    warnings : reasons why the interval may be too narrow; empty where it can be trusted
    """

    n_decisions: int
    n_customers: int
    earned: float
    differences: dict[Method, Difference]
    bounds: tuple[float, float]
    agreement: float
    effective: float
    largest_weight: float
    unsupported: float
    price: float
    warnings: tuple[str, ...]


def evaluate(logged: Logged, lowest: Floats, highest: Floats) -> Evaluation:
    """Compare a candidate with the incumbent.

    Parameters
    ----------
    lowest, highest : ndarray, shape (n_actions,), EUR
        least and most earnings of each action
    """
    weight = logged.weight
    effective = float(weight.sum() ** 2 / max((weight**2).sum(), 1e-300))
    # Offering nothing earns 0 for certain, so the last action needs no support.
    unsupported = float(np.where(logged.incumbent > 0, 0, logged.candidate)[:, :-1].sum(axis=1).mean())
    differences = {} if logged.deterministic else {method: difference(logged, method) for method in METHODS}
    best = logged.expected.max(axis=1, where=logged.incumbent > 0, initial=-np.inf)
    return Evaluation(
        n_decisions=len(weight),
        n_customers=len(np.unique(logged.customer)),
        earned=float(logged.reward.mean()),
        differences=differences,
        bounds=_bounds(logged, lowest, highest),
        agreement=float(_taken(logged.candidate, logged.action).mean()),
        effective=effective,
        largest_weight=float(weight.max()),
        unsupported=unsupported,
        price=float((best - (logged.incumbent * _plain(logged)).sum(axis=1)).mean()),
        warnings=tuple(_warnings(effective, float(weight.max()), unsupported)),
    )


def difference(logged: Logged, method: Method) -> Difference:
    """Estimate the candidate's earnings minus the incumbent's by one method, with an interval clustered by customer.

    The estimate is the mean of a term per decision. Let w be its weight, r its reward, q the model's expectation, and e
    and b the candidate's and the incumbent's probabilities. ips: (w - 1) r. snips, linearised: w (r - v) / mean w +
    v - r, where v is the weighted mean of r. dm: sum (e - b) q. dr: that of dm plus (w - 1) (r - q). switch_dr adds the
    latter only where w is at most `SWITCH_AT` (Wang, Agarwal and Dudik 2017).
    """
    value, terms = _terms(logged, method)
    low, high = interval(value, terms, logged.customer)
    return Difference(value, low, high)


def smallest_exploration(
    logged: Logged, lowest: Floats, highest: Floats, gain: float, decisions: int
) -> tuple[float, float] | None:
    """Find the smallest epsilon with which a gain can be told apart from 0.

    Parameters
    ----------
    lowest, highest : as of `evaluate`; an acceptance earns the highest, anything else the lowest
    gain : the gain to be detected, EUR per decision
    decisions : number of decisions that will be made with that exploration

    Returns
    -------
    tuple of float, or None
        epsilon and its price in EUR per decision, by the model's expectation; None where even epsilon 1 is too little
    """
    choices = np.isfinite(logged.expected)
    uniform = choices / choices.sum(axis=1, keepdims=True)
    expected = _plain(logged)
    greedy = np.take_along_axis(expected, logged.incumbent.argmax(axis=1)[:, None], axis=1)[:, 0]
    price = float((greedy - (uniform * expected).sum(axis=1)).mean())
    noise = (expected - lowest).clip(0) * (highest - expected).clip(0)
    half = norm.ppf((1 + LEVEL) / 2)
    for epsilon in np.geomspace(1e-3, 1, 61):
        mixed = (1 - epsilon) * logged.incumbent + epsilon * uniform
        ratio = np.divide((logged.candidate - mixed) ** 2, mixed, out=np.zeros_like(mixed), where=mixed > 0)
        spread = float(((logged.candidate - mixed) * expected).sum(axis=1).var())
        variance = float((ratio * noise).sum(axis=1).mean()) + spread
        if half * np.sqrt(variance / decisions) <= abs(gain):
            return float(epsilon), float(epsilon) * price
    return None


def _terms(logged: Logged, method: Method) -> tuple[float, Floats]:
    """Compute the difference, and the terms of the decisions, whose mean it is."""
    weight, reward = logged.weight, logged.reward
    if method == "ips":
        terms = (weight - 1) * reward
        return float(terms.mean()), terms
    if method == "snips":
        # Weights only cover the candidate's probability on actions that the incumbent takes too. Their expected mean is
        # this mass, not 1.
        mass = np.where(logged.incumbent > 0, logged.candidate, 0).sum(axis=1)
        ratio = float((weight * reward).sum() / max(weight.sum(), 1e-300))
        value = float(mass.mean()) * ratio - float(reward.mean())
        terms = mass.mean() * weight * (reward - ratio) / max(weight.mean(), 1e-300) + mass * ratio - reward
        return value, terms
    expected = _plain(logged)
    terms = ((logged.candidate - logged.incumbent) * expected).sum(axis=1)
    if method != "dm":
        correction = (weight - 1) * (reward - _taken(expected, logged.action))
        terms = terms + np.where((method == "dr") | (weight <= SWITCH_AT), correction, 0)
    return float(terms.mean()), terms


def interval(value: float, terms: Floats, customer: NDArray[np.generic]) -> tuple[float, float]:
    """Compute the 95 % interval of a mean of terms, clustered by customer; unbounded for a single customer."""
    _, cluster = np.unique(customer, return_inverse=True)
    sums = np.bincount(cluster, terms - value)
    count = len(sums)
    if count < 2:
        return -np.inf, np.inf
    error = float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(terms))
    half = float(norm.ppf((1 + LEVEL) / 2)) * error
    return value - half, value + half


def _bounds(logged: Logged, lowest: Floats, highest: Floats) -> tuple[float, float]:
    same = _taken(logged.candidate, logged.action)
    others = logged.candidate.copy()
    np.put_along_axis(others, logged.action[:, None], 0, axis=1)
    certain = float((same * logged.reward - logged.reward).mean())
    return certain + float((others @ lowest).mean()), certain + float((others @ highest).mean())


def _warnings(effective: float, largest: float, unsupported: float) -> list[str]:
    warnings = []
    if effective < FEW:
        warnings.append(f"the effective sample is {effective:.0f} decisions, fewer than {FEW:.0f}")
    if largest > HEAVY:
        warnings.append(f"the largest weight is {largest:.1f}, above {HEAVY:g}: support is thin, look at switch_dr")
    if unsupported > UNSUPPORTED:
        warnings.append(f"{unsupported:.1%} of the candidate's choices were never made: only the model speaks for them")
    return warnings


def _plain(logged: Logged) -> Floats:
    """Fill missing expectations with 0; both policies have probability 0 there, so the value has no effect."""
    return np.where(np.isfinite(logged.expected), logged.expected, 0.0)


def _taken(values: Floats, action: NDArray[np.intp]) -> Floats:
    return np.take_along_axis(values, action[:, None], axis=1)[:, 0]
