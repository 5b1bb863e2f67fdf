"""What a load holds, column by column, and what is unlike the loads before it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from pydantic import Field

from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.contract.values import shown_number
from offers.layers.silver import Change
from offers.record import Record
from offers.wording import spoken

_COMPARED, _FEWEST = 10, 3
"""How many of the newest loads a load is held against, and how few of them are enough."""
_ERRORS = 4.0
"""Standard errors beyond which a share or mean is unlike: by chance once in 16 000 comparisons."""
_SHARE, _TIMES = 0.02, 3.0
"""Changes of a share, and of a number of rows, that are too small to tell."""
_TOP = 20


class Profile(Record):
    """A column in a load. `shares` are those of its most frequent words, `low`, `high` and `mean` those of numbers."""

    missing: float
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    deviation: float | None = None
    shares: Mapping[str, float] = Field(default_factory=dict)


class LoadReport(Record):
    """A load, as the table of loads keeps it.

    Attributes
    ----------
    rows, rejected, repeated : rows that came, that break the contract, and whose key came again below
    left_out : rows from before the moment that was asked for
    first, last : first and last moment in the time column, where it holds dates
    gold : the version of gold afterwards, with its rows; `note` says why the load made no new one
    """

    load: str
    at: datetime
    source: str
    fingerprint: str
    rows: int
    rejected: int
    repeated: int
    left_out: int = 0
    change: Change
    first: datetime | None
    last: datetime | None
    columns: dict[str, Profile]
    gold: int | None
    gold_rows: int
    note: str = ""
    anomalies: tuple[str, ...] = ()


def profiles(rows: pa.Table, contract: Contract) -> dict[str, Profile]:
    """Describe each column of typed rows, other than dates, free text and identifiers, which are new in every load."""
    told = [c for c in contract.columns if c.type not in ("date", "text") and c.role != Role.IDENTIFIER]
    return {column.name: _profile(rows[column.name]) for column in told}


def span(rows: pa.Table, contract: Contract) -> tuple[datetime | None, datetime | None]:
    """First and last moment of rows, where the contract's time column holds dates."""
    if contract.time is None or contract[contract.time.column].type != "date":
        return None, None
    ends = pc.min_max(rows[contract.time.column]).as_py()
    return ends["min"], ends["max"]


def anomalies(report: LoadReport, before: Sequence[LoadReport]) -> Iterator[str]:
    """Say what is unlike the loads before: volume, rejects, freshness, and missing values, ranges, means and words.

    Parameters
    ----------
    before : reports of earlier loads, the newest last; fewer than three say nothing
    """
    before = [one for one in before if one.rows][-_COMPARED:]
    if len(before) < _FEWEST or not report.rows:
        return
    usual = median(one.rows for one in before)
    if not usual / _TIMES <= report.rows <= usual * _TIMES:
        yield f"{report.rows} rows, where {usual:.0f} are usual"
    rejected = [one.rejected / one.rows for one in before]
    if _unlike(report.rejected / report.rows, rejected, report.rows):
        share = report.rejected / report.rows
        yield f"{share:.1%} of the rows break the contract, where {np.mean(rejected):.1%} usually do"
    yield from _stale(report, before)
    for name, column in report.columns.items():
        earlier = [one.columns[name] for one in before if name in one.columns]
        if len(earlier) >= _FEWEST:
            yield from (f"column '{name}': {what}" for what in _column(column, earlier, report.rows))


def _column(column: Profile, before: Sequence[Profile], rows: int) -> Iterator[str]:
    missing = [one.missing for one in before]
    if _unlike(column.missing, missing, rows):
        yield f"{column.missing:.1%} missing, where {np.mean(missing):.1%} are usual"
    words = dict.fromkeys(word for one in (column, *before) for word in one.shares)
    for word in words:
        shares = [one.shares.get(word, 0.0) for one in before]
        if _unlike(column.shares.get(word, 0.0), shares, rows):
            yield f"{word!r} in {column.shares.get(word, 0.0):.1%} of the rows, where {np.mean(shares):.1%} is usual"
    means, widths = [one.mean for one in before if one.mean is not None], [one.deviation or 0.0 for one in before]
    if column.mean is None or column.low is None or column.high is None or len(means) < _FEWEST:
        return
    deviation = max(float(np.mean(widths)), 1e-12)
    error = float(np.hypot(deviation / np.sqrt(rows), np.std(means, ddof=1)))
    if abs(column.mean - np.mean(means)) > max(_ERRORS * error, 0.1 * deviation):
        yield f"mean {shown_number(column.mean)}, where {shown_number(float(np.mean(means)))} is usual"
    low = min(one.low for one in before if one.low is not None)
    high = max(one.high for one in before if one.high is not None)
    if column.low < low - (high - low) / 2 or column.high > high + (high - low) / 2:
        yield (
            f"from {shown_number(column.low)} to {shown_number(column.high)},"
            f" where {shown_number(low)} to {shown_number(high)} came before"
        )


def _stale(report: LoadReport, before: Sequence[LoadReport]) -> Iterator[str]:
    ages = [one.at - one.last for one in before if one.last is not None]
    if report.last is None or len(ages) < _FEWEST:
        return
    age, usual = report.at - report.last, sorted(ages)[len(ages) // 2]
    if age > max(_TIMES * usual, usual + timedelta(days=1)):
        yield f"the newest row is {spoken(age)} old, where {spoken(usual)} is usual"


def _unlike(share: float, before: Sequence[float], rows: int) -> bool:
    """Whether a share differs from earlier ones by more than chance, and by more than they do among themselves."""
    mean = float(np.mean(before))
    error = np.hypot(np.sqrt(max(mean * (1 - mean), 1 / rows) / rows), np.std(before, ddof=1))
    return bool(abs(share - mean) > _SHARE + _ERRORS * error)


def _profile(values: pa.ChunkedArray) -> Profile:
    count = max(len(values), 1)
    missing = values.null_count / count
    if pa.types.is_string(values.type) or pa.types.is_boolean(values.type):
        words = pd.Series(values.to_pandas()).value_counts()
        return Profile(missing=missing, shares={str(word): int(n) / count for word, n in words.head(_TOP).items()})
    numbers = values.drop_null().cast(pa.float64(), safe=False)
    if not len(numbers):
        return Profile(missing=missing)
    ends = pc.min_max(numbers).as_py()
    return Profile(
        missing=missing,
        low=ends["min"],
        high=ends["max"],
        mean=pc.mean(numbers).as_py(),
        deviation=pc.stddev(numbers).as_py(),
    )
