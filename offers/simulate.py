"""A simulated world for any contract: seeded, with known true propensities, delayed outcomes, drift on demand."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri

from offers.contract import MONTHS, Column, Contract, Role
from offers.errors import ContractError, SourceError, StorageError

Floats = NDArray[np.float64]
Values = dict[str, Floats]
Rows = NDArray[np.int64]
Times = NDArray[np.datetime64]

BLOCK = 8192
REFERENCE_BLOCKS = 4
MISSING = (0.02, 0.15)
SKEWED = 0.15
WIDTH = 100.0
DECAY = 0.75
PAIRS = ((0, 1), (0, 2), (1, 2), (1, 3), (0, 3))
PAIR_WEIGHT = 0.6
AUTOCORRELATION = 0.5
FOLLOWING = 0.4
OWN = 3.0
CYCLE = 10.0
NOISE = 0.5
LEAK = 0.9
UNLISTED = "unlisted"
_NS, _SECONDS = np.dtype("datetime64[ns]"), np.dtype("datetime64[s]")


@dataclass(frozen=True)
class RateShift:
    """From row `at` on, every acceptance is `logits` more (or less) likely."""

    at: int
    logits: float


@dataclass(frozen=True)
class CovariateShift:
    """From row `at` on, a numeric column is `sigmas` of its standard deviations higher (or lower).

    The values move before they are rounded and held within `min` and `max`.
    """

    at: int
    column: str
    sigmas: float


@dataclass(frozen=True)
class ShareShift:
    """From row `at` on, the share of one value of a category or boolean column is multiplied by `factor`.

    The other values shrink or grow in proportion; a share ends at 1.
    """

    at: int
    column: str
    value: str | bool
    factor: float


@dataclass(frozen=True)
class ConceptShift:
    """From row `at` on, customer effects that hold at least `share` of the customer variance change sign."""

    at: int
    share: float


Regime = RateShift | CovariateShift | ShareShift | ConceptShift


@dataclass(frozen=True)
class Sample:
    """Rows of a world, in the order of their decisions.

    Attributes
    ----------
    frame : DataFrame, typed, all of the contract's columns
    propensity : ndarray, shape (rows,), the true probability of acceptance, in (0, 1)
    decided_at, outcome_at : ndarray of datetime64[ns], shape (rows,); outcome_at is never before decided_at
    """

    frame: pd.DataFrame
    propensity: Floats
    decided_at: NDArray[np.datetime64]
    outcome_at: NDArray[np.datetime64]


@dataclass(frozen=True, eq=False)
class World:
    """What is true of a contract's simulated customers and of their times; every number follows from `seed`.

    The logit of acceptance is an intercept, which makes the mean propensity `simulation.base_rate`, plus a
    customer part (effects and interactions of input columns, with standard deviation `customer_spread`), plus,
    for contracts with `time`, one level for each month (autocorrelated, with standard deviation `period_spread`).
    Context columns are then constant within a month and follow its level in part.

    Examples
    --------
    >>> from offers.contract import load
    >>> sample = World(load("personal-loan"), seed=1).sample(2000)
    >>> len(sample.frame), bool(abs(sample.propensity.mean() - 0.1) < 0.02)
    (2000, True)
    """

    contract: Contract
    seed: int = 0

    def sample(self, rows: int, *, seed: int = 0, start: int = 0, regimes: Sequence[Regime] = ()) -> Sample:
        """Rows `start` to `start + rows` of the endless stream that `seed` names.

        The months of the contract's timeline are spread over all `start + rows` rows, so that
        `sample(n, start=s)` gives the last n rows of `sample(s + n)`.

        Parameters
        ----------
        rows : int, at least 1
        seed : int, names the stream; the world's truth does not depend on it
        start : int, at least 0
        regimes : changes of the world, each from row `at` of the stream on; rows before it stay as they are

        Raises
        ------
        SourceError
            rows or start is out of range, or a regime names a column or value that can't be shifted
        """
        if rows < 1 or start < 0:
            raise SourceError(f"a sample needs rows >= 1 and start >= 0, got rows {rows} and start {start}")
        regimes = sorted(regimes, key=lambda regime: regime.at)
        self._check(regimes)
        stop = start + rows
        blocks = [
            self._block(np.arange(max(start, first), min(stop, first + BLOCK)), seed, stop, regimes)
            for first in range(start - start % BLOCK, stop, BLOCK)
        ]
        values = {name: np.concatenate([block.pop(name) for block in blocks]) for name in tuple(blocks[0])}
        return self._dated(np.arange(start, stop), values)

    def _check(self, regimes: Sequence[Regime]) -> None:
        for shift in regimes:
            if isinstance(shift, CovariateShift | ShareShift):
                if shift.column not in self._marginals:
                    able = ", ".join(self._marginals)
                    raise SourceError(f"column {shift.column!r} can't be shifted; expected one of {able}")
                _shifted(self._marginals[shift.column], shift)

    def _block(self, rows: Rows, seed: int, horizon: int, regimes: Sequence[Regime]) -> Values:
        """Values of rows that lie within one block, with '_propensity', '_accepted' and '_delay' (in days)."""
        drawn = self._uniform("rows", seed, int(rows[0]) // BLOCK)
        uniform = {name: numbers[rows % BLOCK] for name, numbers in drawn.items()}
        period = self._months.at(rows / horizon)
        uniform |= {name: levels[period] for name, levels in self._contexts.items()}
        values = self._columns(self._before, uniform, rows, regimes)
        logit = self._intercept + self._levels[period] + self._customers.logit(values, rows, regimes)
        for shift in regimes:
            if isinstance(shift, RateShift):
                logit += np.where(rows >= shift.at, shift.logits, 0.0)
        propensity = expit(logit)
        accepted = uniform["_accepted"] < propensity
        uniform |= {name: _leaking(uniform[name], accepted) for name in self._after}
        values |= self._columns(self._after, uniform, rows, regimes)
        delay = _delay(uniform["_delay"], self.contract.target.matures_after_days)
        return values | {"_propensity": propensity, "_accepted": accepted, "_delay": delay}

    def _columns(
        self, names: Sequence[str], uniform: Values, rows: Rows, regimes: Sequence[Regime] = ()
    ) -> Values:
        return {name: self._column(name, uniform, rows, regimes) for name in names}

    def _column(self, name: str, uniform: Values, rows: Rows, regimes: Sequence[Regime]) -> Floats:
        marginal = self._marginals[name]
        values = marginal.at(uniform[name])
        for shift in regimes:
            if isinstance(shift, CovariateShift | ShareShift) and shift.column == name:
                marginal = _shifted(marginal, shift)
                values = np.where(rows >= shift.at, marginal.at(uniform[name]), values)
        return np.where(uniform[f"_{name}"] < self._missing[name], np.nan, values)

    def _dated(self, rows: Rows, values: Values) -> Sample:
        decided = self._months.moment(rows / (rows[-1] + 1))
        delay = (values.pop("_delay") * 86400).astype("timedelta64[s]")
        outcome = decided + delay
        propensity = values.pop("_propensity")
        columns = self.contract.columns
        frame = pd.DataFrame({c.name: self._series(c, rows, values, decided, outcome) for c in columns})
        return Sample(frame, propensity, decided, outcome)

    def _series(self, column: Column, rows: Rows, values: Values, decided: Times, outcome: Times) -> Any:
        if column.role == Role.TARGET:
            return values["_accepted"]
        if column.name in values:
            return _typed(column, values.pop(column.name))
        if column.type == "date":
            return (outcome if column.role == Role.LEAKAGE else decided).astype("datetime64[D]").astype(_NS)
        if column.type == "category":
            return _typed(column, self._months.codes(rows / (rows[-1] + 1), column.values))
        ids = _identifiers(column, rows)
        return ids.astype(str).astype(object) if column.type == "text" else _typed(column, ids)

    def _rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        name = f"{self.contract.name}/{purpose}"
        return np.random.default_rng([self.seed, zlib.crc32(name.encode()), *numbers])

    def _uniform(self, purpose: str, *numbers: int) -> Values:
        """A block of uniform numbers per column, and under '_' + its name those that decide whether it is missing."""
        names = [*self._marginals, *(f"_{name}" for name in self._marginals), "_accepted", "_delay"]
        drawn = self._rng(purpose, *numbers).random((len(names), BLOCK))
        return dict(zip(names, drawn, strict=True))

    @cached_property
    def _marginals(self) -> dict[str, "_Marginal"]:
        """The columns whose values are drawn: all but the target, texts, dates, identifiers and the month."""
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
    def _after(self) -> list[str]:
        return [name for name in self._marginals if self.contract[name].role == Role.LEAKAGE]

    @cached_property
    def _before(self) -> list[str]:
        """The columns that are known before the outcome."""
        return [name for name in self._marginals if self.contract[name].role != Role.LEAKAGE]

    @cached_property
    def _missing(self) -> dict[str, float]:
        shares = self._rng("missing").uniform(*MISSING, size=len(self._marginals))
        return {
            name: float(share) if self.contract[name].may_be_missing else 0.0
            for name, share in zip(self._marginals, shares, strict=True)
        }

    @cached_property
    def _months(self) -> "_Months":
        months = _calendar(self.contract)
        sizes = self._rng("sizes").uniform(0.5, 1.5, size=len(months))
        return _Months(months, np.cumsum(sizes) / sizes.sum())

    @cached_property
    def _path(self) -> Floats:
        """The level of each month with mean 0 and standard deviation 1 over rows: a wave and noise."""
        rng = self._rng("path")
        length = len(self._months.first)
        wave = np.sqrt(2) * np.sin(2 * np.pi * (np.arange(length) / CYCLE + rng.uniform()))
        return self._months.standardised(wave + NOISE * _autocorrelated(rng, length, AUTOCORRELATION))

    @cached_property
    def _levels(self) -> Floats:
        """What each month adds to the logit."""
        spread = self.contract.simulation.period_spread if self.contract.time else 0.0
        return spread * self._path

    @cached_property
    def _contexts(self) -> Values:
        """For contracts with time, the rank of each context column's value in each month, in (0, 1)."""
        if self.contract.time is None:
            return {}
        rng = self._rng("contexts")
        names = [name for name in self._before if self.contract[name].role == Role.CONTEXT]
        return {name: ndtr(self._following(rng)) for name in names}

    def _following(self, rng: np.random.Generator) -> Floats:
        length = len(self._path)
        trend = rng.choice([-1.0, 1.0]) * np.arange(length) + OWN * _autocorrelated(rng, length, AUTOCORRELATION)
        trend = self._months.standardised(trend)
        follow = FOLLOWING * np.cos(np.pi * np.arange(length) / length) * rng.choice([-1.0, 1.0])
        return follow * self._path + np.sqrt(1 - FOLLOWING**2) * trend

    @cached_property
    def _reference(self) -> Values:
        """Customers in plenty, to standardise effects by."""
        rows = np.arange(BLOCK)
        names = [column.name for column in self.contract.inputs if column.name in self._marginals]
        names = [name for name in names if name not in self._contexts]
        blocks = [self._columns(names, self._uniform("reference", k), rows) for k in range(REFERENCE_BLOCKS)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in names}

    @cached_property
    def _customers(self) -> "_Customers":
        return _customers(
            self._marginals, self._reference, self.contract.simulation.customer_spread, self._rng("effects")
        )

    @cached_property
    def _intercept(self) -> float:
        simulation = self.contract.simulation
        customers = np.sort(self._customers.logit(self._reference, np.arange(REFERENCE_BLOCKS * BLOCK)))[4::8]
        logits = self._levels[:, None] + customers

        def surplus(intercept: float) -> float:
            return float(self._months.shares @ expit(intercept + logits).mean(axis=1)) - simulation.base_rate

        bound = 40 + 10 * (simulation.customer_spread + simulation.period_spread)
        return float(brentq(surplus, -bound, bound))


def write_csv(frame: pd.DataFrame, contract: Contract, path: Path) -> None:
    """Write a typed frame as the contract's source would hold it, so that it can be ingested like the real file.

    Missing values are written as the first of the column's `missing` values, else empty where it is nullable,
    else (a category whose unknown values count as missing) as a word outside its values; booleans as 0 and 1.

    Raises
    ------
    StorageError
        the file can't be written
    """
    form = contract.source.format
    cells = pd.DataFrame(
        {column.name: _cells(column, frame[column.name], contract) for column in contract.columns}
    )
    try:
        cells.to_csv(path, sep=form.separator, quotechar=form.quote, encoding=form.encoding, index=False)
    except OSError as error:
        raise StorageError(
            f"expected to write the simulated rows to {path}: {error}; name a path in a directory that can be written"
        ) from None


def _cells(column: Column, series: "pd.Series[Any]", contract: Contract) -> "pd.Series[Any]":
    if column.role == Role.TARGET:
        return series.map({True: contract.target.positive, False: contract.target.negative})
    if column.type in ("integer", "boolean"):
        text = series.astype("Int64").astype("string")
    elif column.type == "number":
        text = series.astype("string").str.replace(".", contract.source.format.decimal)
    elif column.type == "date":
        text = series.dt.strftime("%Y-%m-%d").astype("string")
    else:
        text = series.astype("string")
    return text.fillna(_absent(column))


def _absent(column: Column) -> str:
    if column.missing:
        return column.missing[0]
    return UNLISTED if column.type == "category" and not column.nullable else ""


@dataclass(frozen=True)
class _Range:
    """The distribution of a numeric column: its value at each uniform number."""

    column: Column
    offset: float = 0.0

    def at(self, uniform: Floats) -> Floats:
        values = self._unbounded(np.clip(uniform, 1e-9, 1 - 1e-9)) + self.offset
        low, high = self._bounds
        digits = 0 if self.column.type == "integer" else 3 - int(np.floor(np.log10(high - low)))
        return np.clip(np.round(values, digits), self.column.min, self.column.max) + 0.0

    @property
    def sigma(self) -> float:
        """Standard deviation of the column before any shift."""
        return float(replace(self, offset=0.0).at((np.arange(4096) + 0.5) / 4096).std())

    def _unbounded(self, uniform: Floats) -> Floats:
        low, high = self._bounds
        if self.column.typical is None:
            return low + (high - low) * uniform
        skewed = self.column.min is not None and low - self.column.min < SKEWED * (high - low)
        score = _exponential if skewed else ndtri
        first, last = score(np.array([0.05, 0.95]))
        return low + (high - low) * (score(uniform) - first) / (last - first)

    @property
    def _bounds(self) -> tuple[float, float]:
        """The central 90 % where it is known, else the whole range."""
        if isinstance(self.column.typical, tuple):
            return self.column.typical
        low, high = self.column.min, self.column.max
        if low is None:
            low = 0.0 if high is None else high - WIDTH
        return low, low + WIDTH if high is None else high


@dataclass(frozen=True)
class _Shares:
    """The distribution of a category or boolean column: the code of its value at each uniform number."""

    labels: tuple[str | bool, ...]
    shares: tuple[float, ...]

    def at(self, uniform: Floats) -> Floats:
        return np.searchsorted(np.cumsum(self.shares)[:-1], uniform, side="right").astype(np.float64)


_Marginal = _Range | _Shares


def _marginal(column: Column) -> _Marginal:
    if column.is_numeric:
        return _Range(column)
    labels = column.values or (False, True)
    typical = column.typical if isinstance(column.typical, dict) else {}
    unlisted = [label for label in labels if label not in typical]
    rest = max(0.0, 1 - sum(typical.values())) / max(1, len(unlisted))
    shares = np.array([typical.get(str(label), rest) for label in labels])
    return _Shares(labels, tuple(shares / shares.sum()))


def _shifted(marginal: _Marginal, shift: CovariateShift | ShareShift) -> _Marginal:
    match marginal, shift:
        case _Range(), CovariateShift():
            return replace(marginal, offset=marginal.offset + shift.sigmas * marginal.sigma)
        case _Shares(), ShareShift() if shift.value in marginal.labels:
            return _multiplied(marginal, marginal.labels.index(shift.value), shift.factor)
        case _Shares(), _:
            raise SourceError(
                f"{shift} needs a ShareShift of one of {list(marginal.labels)}, column {shift.column!r} has no others"
            )
        case _:
            raise SourceError(
                f"column {shift.column!r} is numeric and is shifted by a CovariateShift, got {shift}"
            )


def _multiplied(marginal: _Shares, code: int, factor: float) -> _Shares:
    share = min(1.0, factor * marginal.shares[code])
    rest = (1 - share) / (1 - marginal.shares[code])
    shares = tuple(share if k == code else rest * old for k, old in enumerate(marginal.shares))
    return replace(marginal, shares=shares)


@dataclass(frozen=True)
class _Effect:
    """What the values of one column do, with mean 0 and standard deviation 1 over the reference customers."""

    shape: Callable[[Floats], Floats]
    unknown: float
    mean: float = 0.0
    sigma: float = 1.0

    def at(self, values: Floats) -> Floats:
        known = ~np.isnan(values)
        raw = np.where(known, self.shape(np.where(known, values, 0.0)), self.unknown)
        return (raw - self.mean) / self.sigma


@dataclass(frozen=True)
class _Steps:
    """One level per code."""

    levels: Floats

    def __call__(self, codes: Floats) -> Floats:
        return self.levels[codes.astype(np.intp)]


@dataclass(frozen=True)
class _Curve:
    """A smooth step and a bump."""

    centre: float
    scale: float
    step: tuple[float, float]
    bump: tuple[float, float]

    def __call__(self, values: Floats) -> Floats:
        z = (values - self.centre) / self.scale
        (slope, knee), (height, peak) = self.step, self.bump
        return np.tanh(slope * (z - knee)) + height * np.exp(-((z - peak) ** 2))


@dataclass(frozen=True)
class _Customers:
    """The customer part of the logit: weighted effects of columns, and of pairs of columns, strongest first."""

    effects: dict[str, _Effect]
    terms: tuple[tuple[str, ...], ...]
    weights: Floats

    def logit(self, values: Values, rows: Rows, regimes: Sequence[Regime] = ()) -> Floats:
        effects = {name: effect.at(values[name]) for name, effect in self.effects.items()}
        parts = np.repeat(self.weights[:, None], len(rows), axis=1)
        for part, term in zip(parts, self.terms, strict=True):
            for name in term:
                part *= effects[name]
        for shift in regimes:
            if isinstance(shift, ConceptShift):
                parts[np.ix_(self._strongest(shift.share), rows >= shift.at)] *= -1
        return parts.sum(axis=0)

    def _strongest(self, share: float) -> NDArray[np.bool_]:
        """The fewest terms that hold `share` of the variance."""
        variance = self.weights**2
        return np.cumsum(variance) - variance < share * variance.sum()


def _customers(
    marginals: Mapping[str, _Marginal], reference: Values, spread: float, rng: np.random.Generator
) -> _Customers:
    effects = {name: _effect(marginals[name], values, rng) for name, values in reference.items()}
    order = [str(name) for name in rng.permutation(list(effects))]
    mains = [((name,), DECAY**rank) for rank, name in enumerate(order)]
    pairs = [((order[a], order[b]), PAIR_WEIGHT) for a, b in PAIRS if b < len(order)]
    ranked = sorted(mains + pairs, key=lambda term: -term[1])
    terms = tuple(term for term, _ in ranked)
    weights = np.array([weight for _, weight in ranked])
    raw = _Customers(effects, terms, weights)
    rows = np.arange(REFERENCE_BLOCKS * BLOCK)
    return replace(raw, weights=weights * spread / (raw.logit(reference, rows).std() or 1.0))


def _effect(marginal: _Marginal, reference: Floats, rng: np.random.Generator) -> _Effect:
    shape: _Steps | _Curve
    if isinstance(marginal, _Shares):
        shape = _Steps(rng.uniform(-1, 1, size=len(marginal.shares)))
    else:
        known = reference[~np.isnan(reference)]
        sign = rng.choice([-1.0, 1.0])
        shape = _Curve(
            centre=float(known.mean()),
            scale=float(known.std()) or 1.0,
            step=(sign * rng.uniform(0.8, 2.0), rng.uniform(-0.5, 0.5)),
            bump=(rng.uniform(-1.5, 1.5), rng.uniform(-1.0, 1.0)),
        )
    raw = _Effect(shape, unknown=rng.uniform(-1, 1))
    values = raw.at(reference)
    return replace(raw, mean=float(values.mean()), sigma=float(values.std()) or 1.0)


@dataclass(frozen=True)
class _Months:
    """The timeline: consecutive months, and the share of all rows at which each ends."""

    first: NDArray[np.datetime64]
    ends: Floats

    @property
    def shares(self) -> Floats:
        return np.diff(self.ends, prepend=0.0)

    def standardised(self, path: Floats) -> Floats:
        centred = path - self.shares @ path
        return centred / (np.sqrt(self.shares @ centred**2) or 1.0)

    def at(self, position: Floats) -> NDArray[np.intp]:
        """The index of the month at each position, in [0, 1), on the timeline."""
        return np.searchsorted(self.ends[:-1], position, side="right")

    def moment(self, position: Floats) -> Times:
        month = self.at(position)
        through = (position - (self.ends - self.shares)[month]) / self.shares[month]
        begin, end = (self.first[month] + k for k in (0, 1))
        seconds = (end.astype(_SECONDS) - begin.astype(_SECONDS)).astype(np.float64)
        return (begin.astype(_SECONDS) + np.floor(through * seconds).astype("timedelta64[s]")).astype(_NS)

    def codes(self, position: Floats, names: Sequence[str]) -> Floats:
        """The code, among `names`, of the month's name at each position."""
        numbers = self.first.astype(np.int64) % 12
        return np.array([names.index(MONTHS[number]) for number in numbers], dtype=np.float64)[
            self.at(position)
        ]


def _calendar(contract: Contract) -> NDArray[np.datetime64]:
    """The months that the contract's rows are spread over, without those that its month column has no name for."""
    time, periods = contract.time, contract.simulation.periods
    start = np.datetime64((time and time.start) or "2024-01", "M")
    until = np.datetime64(time.until, "M") if time and time.until else start + 12 * periods
    names = (time and contract[time.column].values) or MONTHS
    months = [month for month in np.arange(start, until + 1) if MONTHS[month.astype(int) % 12] in names]
    if not months:
        raise ContractError(
            f"contract {contract.name}: no month from time.start {start} to time.until {until}; mend one of them"
        )
    return np.array(months[:periods])


def _autocorrelated(rng: np.random.Generator, length: int, correlation: float) -> Floats:
    """A first-order autoregressive path with mean 0 and standard deviation 1."""
    path = rng.standard_normal(length)
    for k in range(1, length):
        path[k] = correlation * path[k - 1] + np.sqrt(1 - correlation**2) * path[k]
    return path


def _exponential(uniform: Floats) -> Floats:
    return -np.log1p(-uniform)


def _leaking(uniform: Floats, accepted: NDArray[np.bool_]) -> Floats:
    return ndtr(ndtri(uniform) + np.where(accepted, 2 * LEAK, 0.0))


def _delay(uniform: Floats, longest: float) -> Floats:
    """Exponential delays, in days, truncated at `longest`, with a quarter of it as their mean before that."""
    mean = longest / 4
    return -mean * np.log1p(uniform * np.expm1(-4.0))


def _identifiers(column: Column, rows: Rows) -> Rows:
    """Row numbers from `min` (or 1) on, which begin again after `max`."""
    first = 1 if column.min is None else math.ceil(column.min)
    return first + (rows if column.max is None else rows % (math.floor(column.max) - first + 1))


def _typed(column: Column, values: Floats) -> Any:
    if column.type == "category":
        codes = np.where(np.isnan(values), -1, values).astype(np.intp)
        return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(column.values)))
    if column.type == "number" or column.may_be_missing:
        return values.astype(np.float64)
    return values.astype(np.bool_ if column.type == "boolean" else np.int64)
