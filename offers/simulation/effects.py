"""Effects of a simulated customer's columns on the logit of acceptance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from offers.simulation.arrays import BLOCK, REFERENCE_BLOCKS, Floats, Rows, Values
from offers.simulation.marginals import Marginal, Range, Shares
from offers.simulation.shifts import ConceptShift, Regime

DECAY = 0.6
"""Weight of each column's effect, relative to that of the next stronger one."""


PAIRS, PAIR_WEIGHT = ((0, 1), (0, 2)), 0.4
"""Which columns interact, by the rank of their effects, and how strongly, relative to the strongest effect."""


@dataclass(frozen=True)
class _Effect:
    """The effect of one column's values on the logit, with mean 0 and standard deviation 1."""

    shape: Callable[[Floats], Floats]
    unknown: float
    mean: float = 0.0
    sigma: float = 1.0

    def at(self, values: Floats) -> Floats:
        unknown = np.isnan(values)
        raw = np.where(unknown, self.unknown, self.shape(np.where(unknown, 0.0, values)))
        return (raw - self.mean) / self.sigma


@dataclass(frozen=True)
class _Steps:
    """An effect with one level per code."""

    levels: Floats

    def __call__(self, codes: Floats) -> Floats:
        return self.levels[codes.astype(np.intp)]


@dataclass(frozen=True)
class _Curve:
    """An effect with a smooth step and a bump, in standard deviations of the column."""

    centre: float
    scale: float
    slope: float
    knee: float
    height: float
    peak: float

    def __call__(self, values: Floats) -> Floats:
        z = (values - self.centre) / self.scale
        bump: Floats = self.height * np.exp(-((z - self.peak) ** 2))
        return np.tanh(self.slope * (z - self.knee)) + bump


@dataclass(frozen=True)
class Customers:
    """The customer part of the logit: weighted effects of columns and of pairs of columns, strongest first."""

    effects: dict[str, _Effect]
    terms: tuple[tuple[str, ...], ...]
    weights: Floats

    def logit(self, values: Values, rows: Rows, regimes: Sequence[Regime] = ()) -> Floats:
        effects = {name: effect.at(values[name]) for name, effect in self.effects.items()}
        parts = np.repeat(self.weights[:, None], len(rows), axis=1)
        for k, term in enumerate(self.terms):
            for name in term:
                parts[k] *= effects[name]
        for shift in regimes:
            if isinstance(shift, ConceptShift):
                parts[np.ix_(self._strongest(shift.share), rows >= shift.at)] *= -1
        return np.asarray(parts.sum(axis=0))

    def _strongest(self, share: float) -> NDArray[np.bool_]:
        """Mark the fewest terms that hold `share` of the variance."""
        variance = self.weights**2
        return np.asarray(np.cumsum(variance) - variance < share * variance.sum())


def customer_effects(
    marginals: Mapping[str, Marginal], reference: Values, spread: float, rng: np.random.Generator
) -> Customers:
    effects = {name: _effect(marginals[name], values, rng) for name, values in reference.items()}
    order = _in_turns([str(name) for name in rng.permutation(list(effects))], marginals)
    terms: list[tuple[float, tuple[str, ...]]] = [(DECAY**rank, (name,)) for rank, name in enumerate(order)]
    terms += [(PAIR_WEIGHT, (order[a], order[b])) for a, b in PAIRS if b < len(order)]
    terms.sort(key=lambda term: -term[0])
    customers = Customers(effects, tuple(term for _, term in terms), np.array([weight for weight, _ in terms]))
    spread_of_sample = customers.logit(reference, np.arange(BLOCK * REFERENCE_BLOCKS)).std()
    return replace(customers, weights=customers.weights * spread / (spread_of_sample or 1.0))


def _in_turns(names: Sequence[str], marginals: Mapping[str, Marginal]) -> list[str]:
    """Alternate numbers and labels, so that a linear model misses both curves and interactions."""
    numbers = [name for name in names if isinstance(marginals[name], Range)]
    labels = [name for name in names if name not in numbers]
    return [name for turn in zip_longest(numbers, labels) for name in turn if name is not None]


def _effect(marginal: Marginal, reference: Floats, rng: np.random.Generator) -> _Effect:
    shape = _steps(marginal, rng) if isinstance(marginal, Shares) else _curve(reference, rng)
    raw = _Effect(shape, unknown=rng.uniform(-1, 1))
    values = raw.at(reference)
    return replace(raw, mean=float(values.mean()), sigma=float(values.std()) or 1.0)


def _steps(marginal: Shares, rng: np.random.Generator) -> Callable[[Floats], Floats]:
    return _Steps(rng.uniform(-1, 1, size=len(marginal.labels)))


def _curve(reference: Floats, rng: np.random.Generator) -> Callable[[Floats], Floats]:
    return _Curve(
        centre=float(np.nanmean(reference)),
        scale=float(np.nanstd(reference)) or 1.0,
        slope=rng.choice([-1.0, 1.0]) * rng.uniform(0.8, 2.0),
        knee=rng.uniform(-0.5, 0.5),
        height=rng.uniform(-1.5, 1.5),
        peak=rng.uniform(-1.0, 1.0),
    )
