"""Rows to learn from: those of a source, followed by logged decisions whose outcome is final."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from offers.contract.column import MONTHS, Column, Role
from offers.contract.contract import Contract
from offers.data import sources
from offers.data.cells import words
from offers.data.csv_writer import texts
from offers.data.periods import PERIOD
from offers.data.sources import Ingested
from offers.errors import DataError, SourceError
from offers.settings import Settings
from offers.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from offers.store.delta import DeltaTables

KIND, LAYERS = "decisions:", "layers:"
INVERSE = "weight=inverse"
"""Behind the place of a log: each decision weighs 1 / the probability with which the policy put its offer first."""
AS_OF = "as_of="
"""Behind the place of a log: the moment whose knowledge of outcomes counts, so that rows are the same at any time."""
_BEHIND = re.compile(rf"(?P<history>.*?)(?:^|\s*\+\s*){KIND}(?P<log>.+)", re.DOTALL)


def parts(source: str) -> tuple[str, str]:
    """Split a source into that of the history and the place of the decision log; a part that is not named is empty.

    Examples
    --------
    >>> parts("history.csv + decisions:s3://bucket/tables")
    ('history.csv', 's3://bucket/tables')
    >>> parts("history.csv")
    ('history.csv', '')
    """
    match = _BEHIND.fullmatch(source)
    return (match["history"].strip(), match["log"].strip()) if match else (source, "")


def options(log: str) -> tuple[str, bool, datetime | None]:
    """Split the place of a log from what is asked of its rows: whether they are weighed, and as of when.

    Raises
    ------
    SourceError
        an option is unknown, or its moment is none

    Examples
    --------
    >>> options("build/tables?weight=inverse")
    ('build/tables', True, None)
    """
    place, _, query = log.partition("?")
    inverse, as_of = False, None
    for option in filter(None, query.split("&")):
        moment = _moment(option.removeprefix(AS_OF)) if option.startswith(AS_OF) else None
        if option != INVERSE and moment is None:
            expected = f"expected {INVERSE}, or {AS_OF} with a date or a time as ISO 8601 writes it"
            raise SourceError(f"source {KIND}{log}: {expected}; got {option!r}")
        inverse, as_of = inverse or option == INVERSE, moment or as_of
    return place, inverse, as_of


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ingest(contract: Contract, settings: Settings, source: str, as_of: datetime | None = None) -> Ingested:
    """Get the rows of `contract`: the history's, followed by the decision log's where `source` names one.

    Parameters
    ----------
    source : as `offers.data.sources.ingest` takes it; `layers:PLACE@VERSION` for a version of gold, by default the
        newest; `HISTORY + decisions:PLACE`, where an empty history is the contract's own source; or `decisions:PLACE`
        for the log alone; behind the place of a log stands what `options` reads
    as_of : moment whose knowledge of outcomes counts, where the source names none; by default now

    Returns
    -------
    Ingested
        rows of decisions carry their month in `_period`, as YYYY-MM; leakage columns and identifiers are empty there

    Raises
    ------
    SourceError, DataError, StorageError
        as of `sources.ingest`; or the place holds no log
    """
    history, log = parts(source)
    if not log:
        return _history(contract, settings, source)
    from offers.store.delta import DeltaTables

    place, inverse, moment = options(log)
    rows, impossible = decided(DeltaTables.at(place, settings), contract, moment or as_of or datetime.now(UTC), inverse)
    left_out = f" ({counted(impossible, 'decision')} left out: the log says that what was shown had no chance)"
    beside = left_out if impossible else ""
    if source.strip().startswith(KIND):
        if rows.empty:
            raise DataError(f"{source}: expected decisions whose outcome is known, found none")
        own = {column.name: _texts(rows[column.name], column, contract) for column in contract.columns}
        return Ingested(pd.DataFrame(own | {PERIOD: rows[PERIOD]}), f"{source}{beside}", None)
    first = _history(contract, settings, history)
    return Ingested(_behind(first.frame, rows, contract), f"{first.origin} + {KIND}{log}{beside}", None)


def _history(contract: Contract, settings: Settings, source: str) -> Ingested:
    if not source.startswith(LAYERS):
        return sources.ingest(contract, settings, source)
    from offers.layers import gold
    from offers.layers.places import layers_of

    place, version = gold_version(source)
    return gold.read(contract, layers_of(contract, place, settings), source.partition("@")[0], version)


def gold_version(source: str) -> tuple[str, int | None]:
    """Split `layers:PLACE@VERSION` into place and version; the version is None where it is not named.

    Raises
    ------
    SourceError
        the version is not a whole number

    Examples
    --------
    >>> gold_version("layers:s3://bucket/layers@3"), gold_version("layers:")
    (('s3://bucket/layers', 3), ('', None))
    """
    place, at, version = source.removeprefix(LAYERS).partition("@")
    if at and not (version.isascii() and version.isdigit() and len(version) < 10):
        raise SourceError(f"source {source!r}: expected a version of gold behind the @, a whole number")
    return place, int(version) if at else None


def decided(
    tables: "DeltaTables", contract: Contract, as_of: datetime, inverse: bool = False
) -> tuple[pd.DataFrame, int]:
    """Read the decisions that were mature at `as_of`, in the order in which they were made: inputs and label.

    The label is that of the offer in first place. Where impressions are reported, decisions that no customer saw are
    left out. Nothing that was decided, observed or received after `as_of` has any influence.

    Parameters
    ----------
    inverse : whether a decision weighs 1 / the probability with which the policy put its offer first, so that rows
        count as if all offers had been equally likely; by default it weighs 1

    Returns
    -------
    DataFrame
        the contract's columns: words as objects, numbers as float64, moments in UTC, the target as bool, the weight,
        None in columns that were not known at decision time; then `_period`
    int
        number of decisions left out for weights, as their offer had no chance

    Raises
    ------
    DataError
        weights are asked for, and the contract has no column for them
    """
    import pyarrow as pa
    from pyarrow import dataset

    from offers.decisions import history, outcomes, tabled

    if inverse and contract.weight is None:
        raise DataError(
            f"contract {contract.name}: ?{INVERSE} behind a log expects a column with role weight, and there is none: "
            "declare one, or leave that out"
        )
    there = dataset.field("inputs").is_valid() & dataset.field("offer_id").is_valid()
    names = ["decision_id", "decided_at", "catalogue", "inputs", "offer_id", *(["pairs"] if inverse else [])]
    table = history.read(tables, None, as_of, names, there & (dataset.field("contract") == contract.name))
    frame = table.select(["decision_id", "decided_at", "offer_id"]).to_pandas()
    window = timedelta(days=contract.target.matures_after_days)
    labels = outcomes.label(frame, outcomes.read(tables), as_of, window)
    usable = labels.mature & ~np.isnan(labels.outcome) & (labels.presented | (labels.impressions == 0))
    chance = _chances(table) if inverse else np.ones(len(table))
    impossible, usable = int((usable & (chance <= 0)).sum()), usable & (chance > 0)
    table, moments = table.filter(pa.array(usable)), frame["decided_at"][usable].reset_index(drop=True)
    columns = history.inputs_of(table["inputs"].to_pylist(), contract)
    versions = history.kept(tables)
    columns |= tabled.attributes(table["catalogue"].to_pylist(), table["offer_id"].to_pylist(), versions, contract)
    return _rows(contract, columns, labels.outcome[usable] == 1, 1 / chance[usable], moments), impossible


def _rows(
    contract: Contract, inputs: dict[str, np.ndarray], accepted: np.ndarray, weights: np.ndarray, moments: pd.Series
) -> pd.DataFrame:
    own: dict[str, Any] = {}
    for column in contract.columns:
        if column.is_input:
            own[column.name] = pd.Series(inputs.get(column.name), moments.index, _kind(column))
        elif column.role == Role.TARGET:
            own[column.name] = pd.Series(accepted, moments.index)
        elif column.role == Role.WEIGHT:
            own[column.name] = pd.Series(weights, moments.index)
        elif contract.time is not None and column.name == contract.time.column:
            own[column.name] = moments if column.type == "date" else moments.dt.month.map(lambda n: MONTHS[n - 1])
        else:
            own[column.name] = pd.Series(None, moments.index, object)
    return pd.DataFrame(own | {PERIOD: moments.dt.strftime("%Y-%m").astype("string[pyarrow]")})


def _chances(table: "pa.Table") -> np.ndarray:
    """Find the probability with which the policy put each decision's offer first; 1 where it was not scored."""
    from offers.decisions import history

    names = table["offer_id"].to_pylist()
    offers = sorted(set(names))
    probability = history.propensities(table["pairs"], offers)["action_probability"]
    own = probability[np.arange(len(names)), pd.Index(offers).get_indexer(pd.Index(names))] if names else np.ones(0)
    return np.where(np.isnan(own), 1.0, own)


def _kind(column: Column) -> type:
    return object if column.type == "category" else float


def _behind(first: pd.DataFrame, rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Append rows to the history, each column in the format of the history's."""
    joint = {}
    for column in contract.columns:
        own: pd.Series[Any] = first[column.name]
        more: pd.Series[Any]
        if column.is_numeric and pd.api.types.is_numeric_dtype(own.dtype):
            more = rows[column.name].astype("float64")
        elif pd.api.types.is_datetime64_any_dtype(own.dtype):
            more = pd.to_datetime(rows[column.name], utc=True)
            own = pd.to_datetime(own, utc=True)
        else:
            allowed = (contract.target.positive, contract.target.negative) if column.role == Role.TARGET else ()
            own = words(own, allowed or column.values).astype("string[pyarrow]")
            more = _texts(rows[column.name], column, contract)
        joint[column.name] = pd.concat([own, more], ignore_index=True)
    none = pd.Series(None, range(len(first)), "string[pyarrow]")
    return pd.DataFrame(joint | {PERIOD: pd.concat([none, rows[PERIOD]], ignore_index=True)})


def _texts(values: pd.Series, column: Column, contract: Contract) -> pd.Series:
    """Convert cells to the text of the contract's source, null where they are missing."""
    absent = values.isna()
    strings: pd.Series[Any]
    if column.type == "date" and not absent.all():
        strings = values.dt.strftime(column.format or "%Y-%m-%d %H:%M:%S")
    else:
        strings = texts(column, values, contract) if not absent.all() else values
    cells: pd.Series[Any] = strings.astype("string[pyarrow]").mask(absent)
    return cells
