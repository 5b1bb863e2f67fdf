"""A simulated world for any contract: seeded, with known true propensities, delayed outcomes, drift on demand."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri

from offers.contract.contract import MONTHS, Column, Contract, Role
from offers.errors import ContractError, SourceError, StorageError

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Times = NDArray[np.datetime64]
Values = dict[str, Floats]

BLOCK = 8192
"""Rows that are drawn at once; each block of a stream has its own generator, so a stream can be entered anywhere."""

REFERENCE_BLOCKS = 4
CSV_ROWS = 100_000

MISSING, SIZES = (0.02, 0.15), (0.6, 1.4)
"""Ranges of the share of missing values in a column that may be missing, and of a month's rows, relative to others."""

SKEWED = 0.15
"""A typical range that begins this near to `min`, as a share of its length, makes a column skewed."""

WIDTH = 100.0
"""Length of the range of a numeric column of which the contract says too little."""

DECAY = 0.6
"""Weight of each column's effect, relative to that of the next stronger one."""

PAIRS, PAIR_WEIGHT = ((0, 1), (0, 2)), 0.4
"""Which columns interact, by the rank of their effects, and how strongly, relative to the strongest effect."""

CYCLE, NOISE = 9.0, 0.15
"""Length, in months, of the wave in the months' levels, and noise on it. Being no divisor of 12, it gives a month of
the year other levels from year to year: what was learnt of 'May' goes stale."""

FOLLOWING, WANDER = 0.45, 2.0
"""Correlation of context columns with the months' levels; how far, in months, they wander from their trend."""

LEAK = 1.8
"""How far acceptance moves a leaking column, in standard deviations."""

_SECONDS, _NANOSECONDS = np.dtype("datetime64[s]"), np.dtype("datetime64[ns]")


@dataclass(frozen=True)
class RateShift:
    """From row `at` of the stream on, acceptance is higher (or lower) by `logits`."""

    at: int
    logits: float


@dataclass(frozen=True)
class CovariateShift:
    """From row `at` of the stream on, a numeric column is higher (or lower) by `sigmas` of its standard deviations.

    The values move before they are rounded and held between the column's `min` and `max`.
    """

    at: int
    column: str
    sigmas: float


@dataclass(frozen=True)
class ShareShift:
    """From row `at` of the stream on, the share of one value of a category or boolean column is `factor` times as big.

    The other values shrink or grow in proportion; no share grows beyond 1.
    """

    at: int
    column: str
    value: str | bool
    factor: float


@dataclass(frozen=True)
class ConceptShift:
    """From row `at` of the stream on, the strongest customer effects, with `share` of the variance, change sign."""

    at: int
    share: float


Regime = RateShift | CovariateShift | ShareShift | ConceptShift


@dataclass(frozen=True)
class Sample:
    """Rows of a world, in the order of their decisions.

    Attributes
    ----------
    frame : DataFrame, typed, with all of the contract's columns
    propensity : ndarray, shape (rows,), the true probability of acceptance, in (0, 1)
    decided_at, outcome_at : ndarray of datetime64[ns], shape (rows,); an outcome is never before its decision
    """

    frame: pd.DataFrame
    propensity: Floats
    decided_at: Times
    outcome_at: Times


@dataclass(frozen=True, eq=False)
class World:
    """What is true of a contract's simulated customers and of their times; all of it follows from `seed`.

    The logit of acceptance is an intercept, which makes the mean propensity `simulation.base_rate`; plus a customer
    part, effects and interactions of input columns with standard deviation `customer_spread`; plus, for contracts with
    `time`, a level for each month, autocorrelated with standard deviation `period_spread`. Context columns are then
    constant within a month: a trend of their own, about which they follow the level, in one direction at first and in
    the other by the end, so that what was learnt of them goes stale.

    Examples
    --------
    >>> from offers.contract.contract import load
    >>> sample = World(load("personal-loan"), seed=1).sample(2000)
    >>> len(sample.frame), bool(abs(sample.propensity.mean() - 0.1) < 0.02)
    (2000, True)
    """

    contract: Contract
    seed: int = 0

    def sample(self, rows: int, *, seed: int = 0, start: int = 0, regimes: Sequence[Regime] = ()) -> Sample:
        """Draw rows `start` to `start + rows` of the endless stream that `seed` names.

        The contract's timeline is spread over all `start + rows` rows, so `sample(n, start=s)` gives the last n rows
        of `sample(s + n)`.

        Parameters
        ----------
        rows : int, at least 1
        seed : int, at least 0, names the stream; what is true of the world does not depend on it
        start : int, at least 0
        regimes : changes of the world, each from row `at` of the stream on; the rows before it stay as they are

        Raises
        ------
        SourceError
            rows, start or a seed is out of range, or a regime names a column or value that can't be shifted
        """
        if rows < 1 or min(start, seed, self.seed) < 0:
            got = f"rows {rows}, start {start}, seed {seed} in world {self.seed}"
            raise SourceError(f"a sample needs rows >= 1, start >= 0 and seeds >= 0, got {got}")
        regimes = sorted(regimes, key=lambda regime: regime.at)
        self._check(regimes)
        stop = start + rows
        blocks = [
            self._block(np.arange(max(start, first), min(stop, first + BLOCK)), seed, stop, regimes)
            for first in range(start - start % BLOCK, stop, BLOCK)
        ]
        values = {name: np.concatenate([block.pop(name) for block in blocks]) for name in list(blocks[0])}
        return self._dated(np.arange(start, stop), values)

    def _check(self, regimes: Sequence[Regime]) -> None:
        for shift in regimes:
            if isinstance(shift, CovariateShift | ShareShift):
                if shift.column not in self._marginals:
                    able = ", ".join(self._marginals)
                    raise SourceError(f"column {shift.column!r} can't be shifted, expected one of {able}")
                self._marginals[shift.column].shifted(shift)

    def _block(self, rows: Rows, seed: int, horizon: int, regimes: Sequence[Regime]) -> Values:
        """Values of rows that lie within one block, with '_propensity', '_accepted' and '_delay' (in days)."""
        drawn = self._uniform("rows", seed, int(rows[0]) // BLOCK)
        uniform = {name: numbers[rows % BLOCK] for name, numbers in drawn.items()}
        month = self._months.at(rows / horizon)
        uniform |= {name: ranks[month] for name, ranks in self._contexts.items()}
        values = self._columns(self._known_before, uniform, rows, regimes)
        logit = self._intercept + self._levels[month] + self._customers.logit(values, rows, regimes)
        for shift in regimes:
            if isinstance(shift, RateShift):
                logit[rows >= shift.at] += shift.logits
        propensity = expit(logit)
        accepted = uniform["_accepted"] < propensity
        uniform |= {name: _leaked(uniform[name], accepted) for name in self._known_after}
        values |= self._columns(self._known_after, uniform, rows, regimes)
        delay = _delay(uniform["_delay"], self.contract.target.matures_after_days)
        return values | {"_propensity": propensity, "_accepted": accepted, "_delay": delay}

    def _columns(self, names: Sequence[str], uniform: Values, rows: Rows, regimes: Sequence[Regime] = ()) -> Values:
        return {name: self._column(name, uniform, rows, regimes) for name in names}

    def _column(self, name: str, uniform: Values, rows: Rows, regimes: Sequence[Regime]) -> Floats:
        marginal = self._marginals[name]
        values = marginal.at(uniform[name])
        for shift in regimes:
            if isinstance(shift, CovariateShift | ShareShift) and shift.column == name:
                marginal = marginal.shifted(shift)
                values = np.where(rows >= shift.at, marginal.at(uniform[name]), values)
        values[uniform[f"_{name}"] < self._missing[name]] = np.nan
        return values

    def _dated(self, rows: Rows, values: Values) -> Sample:
        decided = self._months.moments(rows / (rows[-1] + 1))
        outcome = decided + (values.pop("_delay") * 86400).astype("timedelta64[s]")
        frame = {column.name: self._cells(column, rows, values, decided, outcome) for column in self.contract.columns}
        return Sample(pd.DataFrame(frame), values["_propensity"], decided, outcome)

    def _cells(
        self, column: Column, rows: Rows, values: Values, decided: Times, outcome: Times
    ) -> NDArray[Any] | pd.Categorical:
        if column.role == Role.TARGET:
            return values["_accepted"]
        if column.name in values:
            return _typed(column, values.pop(column.name))
        if column.type == "date":
            days = (outcome if column.role == Role.LEAKAGE else decided).astype("datetime64[D]")
            return days.astype(_NANOSECONDS)
        if column.type == "category":
            return _typed(column, self._months.codes(rows / (rows[-1] + 1), column.values))
        ids = _identifiers(column, rows)
        return ids.astype(str).astype(object) if column.type == "text" else _typed(column, ids.astype(np.float64))

    def _rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        name = f"{self.contract.name}/{purpose}"
        return np.random.default_rng([self.seed, zlib.crc32(name.encode()), *numbers])

    def _uniform(self, purpose: str, *numbers: int) -> Values:
        """Draw a block of uniform numbers: for each column, and under '_' and its name for whether it is missing."""
        names = [*self._marginals, *(f"_{name}" for name in self._marginals), "_accepted", "_delay"]
        drawn = self._rng(purpose, *numbers).random((len(names), BLOCK))
        return dict(zip(names, drawn, strict=True))

    @cached_property
    def _marginals(self) -> "dict[str, _Marginal]":
        """The columns whose values are drawn: all but target, texts, dates, identifying numbers and the month."""
        month = self.contract.time.column if self.contract.time else None
        return {
            column.name: _marginal(column)
            for column in self.contract.columns
            if column.role != Role.TARGET
            and column.type not in ("text", "date")
            and not (column.role == Role.IDENTIFIER and column.is_numeric)
            and column.name != month
        }

    @cached_property
    def _known_before(self) -> list[str]:
        return [name for name in self._marginals if self.contract[name].role != Role.LEAKAGE]

    @cached_property
    def _known_after(self) -> list[str]:
        return [name for name in self._marginals if self.contract[name].role == Role.LEAKAGE]

    @cached_property
    def _missing(self) -> dict[str, float]:
        """The share of missing values in each column."""
        shares = self._rng("missing").uniform(*MISSING, size=len(self._marginals))
        return {
            name: float(share) if self.contract[name].may_be_missing else 0.0
            for name, share in zip(self._marginals, shares, strict=True)
        }

    @cached_property
    def _months(self) -> "_Months":
        months = _calendar(self.contract)
        sizes = self._rng("sizes").uniform(*SIZES, size=len(months))
        return _Months(months, np.cumsum(sizes) / sizes.sum())

    @cached_property
    def _path(self) -> Floats:
        """The level of each month, with mean 0 and standard deviation 1 over rows."""
        rng, months = self._rng("path"), np.arange(len(self._months.first))
        wave = math.sqrt(2) * np.sin(2 * np.pi * (months / CYCLE + rng.uniform()))
        return self._months.standardised(wave + NOISE * rng.standard_normal(len(months)))

    @cached_property
    def _levels(self) -> Floats:
        """What each month adds to the logit."""
        spread = self.contract.simulation.period_spread if self.contract.time else 0.0
        return spread * self._path

    @cached_property
    def _contexts(self) -> Values:
        """For contracts with time: the rank, in (0, 1), of each context column's value in each month."""
        if self.contract.time is None:
            return {}
        rng = self._rng("contexts")
        names = [name for name in self._known_before if self.contract[name].role == Role.CONTEXT]
        return {name: np.asarray(ndtr(self._context(rng))) for name in names}

    def _context(self, rng: np.random.Generator) -> Floats:
        months = np.arange(len(self._path))
        trend = self._months.standardised(months + WANDER * rng.standard_normal(len(months)))
        turning = np.cos(np.pi * months / len(months))
        weights = rng.choice([-1.0, 1.0], size=2) * (FOLLOWING, math.sqrt(1 - FOLLOWING**2))
        return np.asarray(weights @ (turning * self._path, trend))

    @cached_property
    def _reference(self) -> Values:
        """Customers in plenty, by whom effects are standardised."""
        names = [column.name for column in self.contract.inputs if column.name in self._marginals]
        names = [name for name in names if name not in self._contexts]
        rows = np.arange(BLOCK)
        blocks = [self._columns(names, self._uniform("reference", k), rows) for k in range(REFERENCE_BLOCKS)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in names}

    @cached_property
    def _customers(self) -> "_Customers":
        spread = self.contract.simulation.customer_spread
        return _customers(self._marginals, self._reference, spread, self._rng("effects"))

    @cached_property
    def _intercept(self) -> float:
        """The logit that makes the mean propensity, over customers and months, the base rate."""
        simulation = self.contract.simulation
        customers = self._customers.logit(self._reference, np.arange(BLOCK * REFERENCE_BLOCKS))
        logits = self._levels[:, None] + np.sort(customers)[4::8]

        def surplus(intercept: float) -> float:
            return float(self._months.shares @ expit(intercept + logits).mean(axis=1)) - simulation.base_rate

        bound = 40 + 10 * (simulation.customer_spread + simulation.period_spread)
        return float(brentq(surplus, -bound, bound))


def write_csv(frame: pd.DataFrame, contract: Contract, path: Path) -> None:
    """Write a typed frame in the form of the contract's source, to be ingested like the real file.

    A missing value is written as the first of its column's `missing` values, or as an empty cell where there are none;
    booleans are 0 and 1.

    Raises
    ------
    StorageError
        the file can't be written
    """
    form = contract.source.format
    try:
        with path.open("w", encoding=form.encoding, newline="") as file:
            for first in range(0, max(1, len(frame)), CSV_ROWS):
                part = frame.iloc[first : first + CSV_ROWS]
                texts = pd.DataFrame({c.name: _texts(c, part[c.name], contract) for c in contract.columns})
                texts.to_csv(
                    file,
                    sep=form.separator,
                    quotechar=form.quote,
                    index=False,
                    header=first == 0,
                    lineterminator="\n",
                )
    except OSError as error:
        raise StorageError(
            f"{path}: simulated rows can't be written ({error}); name a file in a writable directory"
        ) from None


def _texts(column: Column, cells: "pd.Series[Any]", contract: Contract) -> "pd.Series[Any]":
    if column.role == Role.TARGET:
        return cells.map({True: contract.target.positive, False: contract.target.negative})
    if column.type in ("integer", "boolean"):
        cells = cells.astype("Int64")
    elif column.type == "date":
        cells = cells.dt.strftime("%Y-%m-%d")
    texts = cells.astype("string").fillna(column.missing[0] if column.missing else "")
    if column.type == "number":
        return texts.str.replace(".", contract.source.format.decimal, regex=False)
    return texts


@dataclass(frozen=True)
class _Range:
    """The distribution of a numeric column, as the value at each uniform number."""

    column: Column
    offset: float = 0.0

    def at(self, uniform: Floats) -> Floats:
        low, high = self._bounds
        digits = 0 if self.column.type == "integer" else 3 - math.floor(math.log10(max(high - low, 1e-6)))
        values = np.round(self._unbounded(np.clip(uniform, 1e-9, 1 - 1e-9)) + self.offset, digits)
        values = np.clip(values, self.column.min, self.column.max) + 0.0
        return np.where(np.isin(values, self._codes), np.nan, values)

    def shifted(self, shift: CovariateShift | ShareShift) -> "_Range":
        if isinstance(shift, ShareShift):
            raise SourceError(f"column {shift.column!r} is numeric, expected a CovariateShift of it, got {shift}")
        return replace(self, offset=self.offset + shift.sigmas * self.sigma)

    @property
    def sigma(self) -> float:
        """Standard deviation of the column before any shift."""
        return float(np.nanstd(replace(self, offset=0.0).at((np.arange(4096) + 0.5) / 4096)))

    @property
    def _codes(self) -> Floats:
        """The numbers that stand for a missing value."""
        numbers = [code.replace(",", ".") for code in self.column.missing]
        return pd.to_numeric(pd.Series(numbers, dtype=object), errors="coerce").to_numpy(np.float64)

    def _unbounded(self, uniform: Floats) -> Floats:
        low, high = self._bounds
        if self.column.typical is None:
            return low + (high - low) * uniform
        skewed = self.column.min is not None and low - self.column.min < SKEWED * (high - low)
        score: Callable[[Floats], Floats] = _exponential if skewed else ndtri
        first, last = score(np.array([0.05, 0.95]))
        return np.asarray(low + (high - low) * (score(uniform) - first) / (last - first))

    @property
    def _bounds(self) -> tuple[float, float]:
        """The central 90 % where it is known, else the whole range."""
        low, high = self.column.min, self.column.max
        if isinstance(self.column.typical, tuple):
            return self.column.typical
        if low is None:
            low = 0.0 if high is None else high - WIDTH
        return low, low + WIDTH if high is None else high


@dataclass(frozen=True)
class _Shares:
    """The distribution of a category or boolean column, as the code of its value at each uniform number."""

    labels: tuple[str | bool, ...]
    shares: tuple[float, ...]

    def at(self, uniform: Floats) -> Floats:
        return np.searchsorted(np.cumsum(self.shares)[:-1], uniform, side="right").astype(np.float64)

    def shifted(self, shift: CovariateShift | ShareShift) -> "_Shares":
        old = {label: share for label, share in zip(self.labels, self.shares, strict=True) if 0 < share < 1}
        if isinstance(shift, CovariateShift) or shift.value not in old or shift.factor < 0:
            able = f"a ShareShift of one of {list(old)} by a factor of at least 0"
            raise SourceError(f"column {shift.column!r} is of labels, expected {able}, got {shift}")
        share = min(1.0, shift.factor * old[shift.value])
        others = (1 - share) / (1 - old[shift.value])
        new = {label: others * share for label, share in old.items()} | {shift.value: share}
        return replace(self, shares=tuple(new.get(label, 0.0) for label in self.labels))


_Marginal = _Range | _Shares


def _marginal(column: Column) -> _Marginal:
    if column.is_numeric:
        return _Range(column)
    labels: tuple[str | bool, ...] = column.values or (False, True)
    typical = column.typical if isinstance(column.typical, dict) else {}
    untold = max(0.0, 1 - sum(typical.values())) / max(1, len(labels) - len(typical))
    shares = np.array([typical.get(str(label), untold) * (label not in column.missing) for label in labels])
    return _Shares(labels, tuple(shares / shares.sum()))


@dataclass(frozen=True)
class _Effect:
    """What the values of one column do to the logit, with mean 0 and standard deviation 1."""

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
    """One level per code."""

    levels: Floats

    def __call__(self, codes: Floats) -> Floats:
        return self.levels[codes.astype(np.intp)]


@dataclass(frozen=True)
class _Curve:
    """A smooth step, and a bump, in standard deviations of the column."""

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
class _Customers:
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


def _customers(
    marginals: Mapping[str, _Marginal], reference: Values, spread: float, rng: np.random.Generator
) -> _Customers:
    effects = {name: _effect(marginals[name], values, rng) for name, values in reference.items()}
    order = _in_turns([str(name) for name in rng.permutation(list(effects))], marginals)
    weighted: list[tuple[float, tuple[str, ...]]] = [(DECAY**rank, (name,)) for rank, name in enumerate(order)]
    weighted += [(PAIR_WEIGHT, (order[a], order[b])) for a, b in PAIRS if b < len(order)]
    weighted.sort(key=lambda term: -term[0])
    customers = _Customers(effects, tuple(term for _, term in weighted), np.array([weight for weight, _ in weighted]))
    drawn = customers.logit(reference, np.arange(BLOCK * REFERENCE_BLOCKS)).std()
    return replace(customers, weights=customers.weights * spread / (drawn or 1.0))


def _in_turns(names: Sequence[str], marginals: Mapping[str, _Marginal]) -> list[str]:
    """Let numbers and labels alternate, so that a linear model misses curves as well as interactions."""
    numbers = [name for name in names if isinstance(marginals[name], _Range)]
    labels = [name for name in names if name not in numbers]
    return [name for turn in zip_longest(numbers, labels) for name in turn if name is not None]


def _effect(marginal: _Marginal, reference: Floats, rng: np.random.Generator) -> _Effect:
    shape = _steps(marginal, rng) if isinstance(marginal, _Shares) else _curve(reference, rng)
    raw = _Effect(shape, unknown=rng.uniform(-1, 1))
    values = raw.at(reference)
    return replace(raw, mean=float(values.mean()), sigma=float(values.std()) or 1.0)


def _steps(marginal: _Shares, rng: np.random.Generator) -> Callable[[Floats], Floats]:
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


@dataclass(frozen=True)
class _Months:
    """The timeline: months, and the share of all rows at which each of them ends."""

    first: Times
    ends: Floats

    @property
    def shares(self) -> Floats:
        return np.diff(self.ends, prepend=0.0)

    def standardised(self, path: Floats) -> Floats:
        """Give a path over months mean 0 and standard deviation 1 over rows."""
        centred = path - self.shares @ path
        return np.asarray(centred / (math.sqrt(self.shares @ centred**2) or 1.0))

    def at(self, position: Floats) -> NDArray[np.intp]:
        """Find the month at each position on the timeline, in [0, 1)."""
        return np.searchsorted(self.ends[:-1], position, side="right")

    def moments(self, position: Floats) -> Times:
        month = self.at(position)
        begin = self.first.astype(_SECONDS)
        length = ((self.first + 1).astype(_SECONDS) - begin).astype(np.float64)
        passed: Floats = (position - (self.ends - self.shares)[month]) / self.shares[month]
        moments = begin[month] + (passed * length[month]).astype("timedelta64[s]")
        return np.asarray(moments.astype(_NANOSECONDS))

    def codes(self, position: Floats, names: Sequence[str]) -> Floats:
        """Find the place in `names` of the name of the month at each position."""
        places = [names.index(_name(month)) for month in self.first]
        return np.array(places, dtype=np.float64)[self.at(position)]


def _name(month: np.datetime64) -> str:
    return MONTHS[month.astype(int) % 12]


def _calendar(contract: Contract) -> Times:
    """List consecutive months within the contract's time, without those that its month column has no name for."""
    time, periods = contract.time, contract.simulation.periods
    start = np.datetime64((time and time.start) or "2024-01", "M")
    until = np.datetime64(time.until, "M") if time and time.until else start + 12 * periods
    names = (time and contract[time.column].values) or MONTHS
    months = [month for month in np.arange(start, until + 1) if _name(month) in names]
    if not months:
        raise ContractError(f"contract {contract.name}: expected a month of {names} from {start} to {until}, got none")
    return np.array(months[:periods])


def _exponential(uniform: Floats) -> Floats:
    return np.asarray(-np.log1p(-uniform))


def _leaked(uniform: Floats, accepted: NDArray[np.bool_]) -> Floats:
    return np.asarray(ndtr(ndtri(uniform) + LEAK * accepted))


def _delay(uniform: Floats, longest: float) -> Floats:
    """Turn uniform numbers into exponential delays with a mean of a quarter of `longest`, truncated there; in days."""
    return -longest / 4 * np.log1p(uniform * math.expm1(-4.0))


def _identifiers(column: Column, rows: Rows) -> Rows:
    """Number rows from the column's `min`, or 1; after its `max` they begin again."""
    first = 1 if column.min is None else math.ceil(column.min)
    return first + (rows if column.max is None else rows % (math.floor(column.max) - first + 1))


def _typed(column: Column, values: Floats) -> NDArray[Any] | pd.Categorical:
    if column.type == "category":
        codes: Any = np.where(np.isnan(values), -1, values).astype(np.int64)
        return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(column.values)))
    if column.type == "number" or column.may_be_missing:
        return values
    return values.astype(np.bool_ if column.type == "boolean" else np.int64)
