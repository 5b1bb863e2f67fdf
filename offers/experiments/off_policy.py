"""Off-policy evaluation: what a candidate policy would have earned, told from the decisions of another one.

The answer to a customer follows from the offer that was drawn for the first place, so that the probabilities of the
first place tell all there is to know of a policy. The result is the difference to the policy that decided, on the same
rows: most of what varies between customers is in both and falls out.
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
    """Decisions, with what both policies would do. The last action is to offer nothing.

    Attributes
    ----------
    customer : ndarray, shape (n,)
        equal for decisions about one customer, which are not independent
    action : ndarray of int, shape (n,)
        the offer that was put first
    reward : ndarray, shape (n,), EUR
    incumbent, candidate : ndarray, shape (n, n_actions)
        probabilities of the first place; each row sums to 1
    expected : ndarray, shape (n, n_actions), EUR
        what the model expects of each action

    Raises
    ------
    DataError
        shapes differ, probabilities do not sum to 1, or something was shown that could not be
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
        """How much more often the candidate would have done the same, shape (n,)."""
        return _taken(self.candidate, self.action) / _taken(self.incumbent, self.action)

    @property
    def deterministic(self) -> bool:
        """Whether nothing was explored."""
        return bool((_taken(self.incumbent, self.action) > 1 - 1e-12).all())


@dataclass(frozen=True)
class Difference:
    """EUR per decision that the candidate earns more than the incumbent, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "open"]:
        """What the interval says."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "open"


@dataclass(frozen=True)
class Evaluation:
    """What the logged decisions tell of a candidate.

    Attributes
    ----------
    earned : EUR per decision of the incumbent
    differences : by method; empty where nothing was explored
    bounds : the difference can't lie outside, whatever the outcomes of what was not shown
    agreement : share of the candidate's probability on what was done
    effective : effective sample size, (sum of weights)² / sum of squared weights
    largest_weight : of one decision
    unsupported : share of the candidate's probability on offers that the incumbent never makes there
    price : EUR per decision that the logged exploration costs by the model's expectation
    warnings : why the interval may be too narrow; empty where it is to be trusted
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
    """Hold a candidate against the incumbent.

    Parameters
    ----------
    lowest, highest : ndarray, shape (n_actions,), EUR
        the least and the most that each action can earn
    """
    weight = logged.weight
    effective = float(weight.sum() ** 2 / max((weight**2).sum(), 1e-300))
    # To offer nothing earns nothing: that needs no support.
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
    """The candidate's earnings over the incumbent's by one method, with an interval clustered by customer.

    The terms of a decision, with w its weight, r its reward, q the model's expectation, e and b the probabilities:
    ips (w - 1) r; snips, linearised, w (r - v) / mean w + v - r with v the weighted mean of r; dm sum (e - b) q; dr
    adds (w - 1) (r - q) to that; switch_dr adds it only where w is at most `SWITCH_AT` (Wang, Agarwal and Dudik 2017).
    """
    value, terms = _terms(logged, method)
    low, high = _interval(value, terms, logged.customer)
    return Difference(value, low, high)


def smallest_exploration(
    logged: Logged, lowest: Floats, highest: Floats, gain: float, decisions: int
) -> tuple[float, float] | None:
    """The least epsilon that would tell a gain apart from none within so many decisions.

    Parameters
    ----------
    lowest, highest : as of `evaluate`; an acceptance earns the highest, anything else the lowest
    gain : EUR per decision that is to be seen
    decisions : to be made with that exploration

    Returns
    -------
    tuple of float, or None
        epsilon and its price in EUR per decision, by the model's expectation; None where even 1 is too little
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
    """The difference, and each decision's share in it, whose mean it is."""
    weight, reward = logged.weight, logged.reward
    if method == "ips":
        terms = (weight - 1) * reward
        return float(terms.mean()), terms
    if method == "snips":
        # The mass of the candidate that weights can speak for, which is what they sum to.
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


def _interval(value: float, terms: Floats, customer: NDArray[np.generic]) -> tuple[float, float]:
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
    """Expectations with 0 where there is none; both policies have probability 0 there."""
    return np.where(np.isfinite(logged.expected), logged.expected, 0.0)


def _taken(values: Floats, action: NDArray[np.intp]) -> Floats:
    return np.take_along_axis(values, action[:, None], axis=1)[:, 0]
