"""When rows happened: the calendar month of each, and its day."""

import numpy as np
import pandas as pd

from offers.contract.column import MONTHS
from offers.contract.contract import Contract

PERIOD = "_period"
"""Column of rows from the decision log: the month of their decision, which counts in place of the time column's."""


def periods(frame: pd.DataFrame, contract: Contract) -> np.ndarray:
    """Find the calendar month of each row as 'YYYY-MM'; names of months are followed over the turn of the year.

    Returns
    -------
    ndarray of str, shape (n_rows,)
        'all' for every row where the contract has no time order
    """
    if contract.time is None:
        return np.full(len(frame), "all")
    column = frame[contract.time.column]
    if contract[contract.time.column].type == "date":
        return np.asarray(column.dt.strftime("%Y-%m"), dtype=str)
    return np.datetime_as_string(months_of(frame, contract), unit="M")


def days(frame: pd.DataFrame, contract: Contract) -> np.ndarray | None:
    """Day of each row, counted from 1970-01-01; None where the contract has no time order.

    Where rows have a month and no date, those of a month are spread evenly over its days, in their order: so such a
    day is right to within a few days where contacts came evenly, and wrong by weeks at most.

    Returns
    -------
    ndarray of int, shape (n_rows,), never falling
    """
    if contract.time is None:
        return None
    column = frame[contract.time.column]
    if contract[contract.time.column].type == "date":
        return column.to_numpy().astype("datetime64[D]").astype(int)
    months = months_of(frame, contract)
    first = months.astype("datetime64[D]").astype(int)
    lengths = (months + 1).astype("datetime64[D]").astype(int) - first
    begins = np.flatnonzero(np.r_[True, months[1:] != months[:-1]])
    counts = np.diff(np.r_[begins, len(months)])
    place = np.arange(len(months)) - np.repeat(begins, counts)
    return np.asarray(first + place * lengths // np.repeat(counts, counts))


def is_logged(frame: pd.DataFrame) -> np.ndarray:
    """Mark the rows that come from the decision log."""
    return frame[PERIOD].notna().to_numpy() if PERIOD in frame else np.zeros(len(frame), bool)


def months_of(frame: pd.DataFrame, contract: Contract) -> np.ndarray:
    """Find the calendar month of each row: the decision's own, or for history the one that the row order implies."""
    assert contract.time is not None
    assert contract.time.start is not None
    logged = is_logged(frame)
    months = np.empty(len(frame), "datetime64[M]")
    months[~logged] = _wrapped(frame[contract.time.column][~logged], contract.time.start)
    if logged.any():
        months[logged] = frame[PERIOD][logged].to_numpy(dtype="datetime64[M]")
    return months


def _wrapped(column: pd.Series, start: str) -> np.ndarray:
    """Turn names of months into months from `start` on; where a month precedes the one above, a new year begins."""
    number = column.astype(str).map({month: i for i, month in enumerate(MONTHS)}).to_numpy(dtype=np.int64)
    wraps = np.cumsum(np.diff(number, prepend=number[:1]) < 0)
    year = np.datetime64(start[:4], "Y").astype("datetime64[M]")
    return np.asarray(year + number + 12 * wraps)
