"""Reads scored decisions and their outcomes from Parquet or the decision log, and checks them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.decisions.period import Period
from offers.errors import DataError, SourceError
from offers.settings import Settings
from offers.store.store import open_store
from offers.wording import some

DECISION, CUSTOMER, SCORED_AT, BUNDLE, SCORE = "decision_id", "customer_id", "scored_at", "bundle", "_propensity"
OUTCOME, OBSERVED_AT = "outcome", "observed_at"
SCORED_COLUMNS = (DECISION, CUSTOMER, SCORED_AT, BUNDLE, SCORE)
OUTCOME_COLUMNS = (DECISION, OUTCOME, OBSERVED_AT)

_KEPT_AS_INDEX = "__index_level_"
_DAY = re.compile(r"(?:^|/)(\d{4}-\d\d-\d\d)/[^/]+$")


@dataclass(frozen=True)
class DistinctRows:
    """Rows of one kind from all files, each decision once, and the number of repetitions that were dropped."""

    frame: pd.DataFrame
    repeated: int


def read_scored(where: str, contract: Contract, settings: Settings, since: datetime | None = None) -> DistinctRows:
    """Read scored rows, in the order in which they were scored.

    Parameters
    ----------
    where : the tables of the decision log, a Parquet file, or a directory of these; a path or s3://bucket/prefix
    since : earlier rows may be skipped, where files lie in one folder per day as the ranker writes them

    Returns
    -------
    Table
        `SCORED_COLUMNS`, then the contract's inputs: numbers and booleans as float64 with NaN, categories as text with
        None. Values are not checked against the contract; `faults` does that.

    Raises
    ------
    SourceError
        nothing is there, or a file can't be read as Parquet
    DataError
        a column is missing, unknown or of another type; a decision has no time or propensity, or has two contents
    """
    # Imported here because it loads deltalake, which the ranker's feed does not need.
    from offers.decisions import tabled

    if log := tabled.log_at(where, settings):
        return DistinctRows(tabled.scored(log, contract, since), 0)
    inputs = {column.name: column for column in contract.inputs}
    tables = [
        _typed(_table(content, (*SCORED_COLUMNS, *inputs), "scored rows", origin), origin, inputs)
        for origin, content in _files(where, "scored rows", settings, since)
    ]
    frame = pd.concat(tables, ignore_index=True)
    wrong = ~frame[SCORE].between(0, 1)
    if wrong.any():
        row = frame[wrong].iloc[0]
        raise DataError(f"{where}, decision {row[DECISION]!r}: expected a propensity in [0, 1], got {row[SCORE]:g}")
    unique = _once(frame, list(frame.columns), where)
    return DistinctRows(unique.frame.sort_values(SCORED_AT, kind="stable", ignore_index=True), unique.repeated)


def served(where: str, period: Period, settings: Settings) -> str:
    """Name the bundle that scored a period's newest row.

    Parameters
    ----------
    where : as of `read_scored`

    Raises
    ------
    SourceError
        nothing is there, or a file can't be read as Parquet
    DataError
        no row was scored in the period, or a file lacks the moments or the bundles
    """
    # Imported here because it loads deltalake, which the ranker's feed does not need.
    from offers.decisions import tabled

    if log := tabled.log_at(where, settings):
        frame = tabled.served(log, period.since, period.until)
    else:
        tables = [
            _typed(_table(content, (SCORED_AT, BUNDLE), "scored rows", origin, others=True), origin, {})
            for origin, content in _files(where, "scored rows", settings, period.since)
        ]
        frame = pd.concat(tables, ignore_index=True)
    moments = frame.loc[period.holds(frame[SCORED_AT]), SCORED_AT]
    if moments.empty:
        begin = f"from {period.since:%Y-%m-%d %H:%M} " if period.since else ""
        raise DataError(
            f"{where}: expected rows scored {begin}until {period.until:%Y-%m-%d %H:%M} UTC, found none: see whether "
            "customers are ranked, and whether the ranker writes there"
        )
    return str(frame.loc[moments.idxmax(), BUNDLE])


def read_outcomes(where: str, settings: Settings, matures_after: timedelta = timedelta()) -> DistinctRows:
    """Read outcomes, both acceptances and refusals; of a repeated outcome the first report counts.

    Parameters
    ----------
    where : as of `read_scored`
    matures_after : in the decision log, no response for this long counts as a refusal

    Raises
    ------
    SourceError
        nothing is there, or a file can't be read as Parquet
    DataError
        a column is missing, unknown or of another type; an outcome is empty, or a decision has two
    """
    # Imported here because it loads deltalake, which the ranker's feed does not need.
    from offers.decisions import tabled

    if log := tabled.log_at(where, settings):
        return DistinctRows(tabled.observed(log, matures_after), 0)
    tables = [
        _typed(_table(content, OUTCOME_COLUMNS, "outcomes", origin), origin, {})
        for origin, content in _files(where, "outcomes", settings)
    ]
    frame = pd.concat(tables, ignore_index=True).sort_values(OBSERVED_AT, kind="stable", ignore_index=True)
    return _once(frame, [DECISION, OUTCOME], where)


def no_outcomes() -> DistinctRows:
    """Make an empty table of outcomes."""
    kinds = {DECISION: "object", OUTCOME: "bool", OBSERVED_AT: "datetime64[us, UTC]"}
    return DistinctRows(pd.DataFrame(columns=list(kinds)).astype(kinds), 0)


def faults(rows: pd.DataFrame, column: Column) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each requirement of the contract that rows of a column break: its words, and a mask of the rows.

    Parameters
    ----------
    rows : as `read_scored` returns them
    """
    values = rows[column.name]
    absent = values.isna().to_numpy()
    if not column.may_be_missing:
        yield "a value, not nothing", absent
    if column.type == "category":
        if column.unknown == "reject":
            yield f"one of {', '.join(column.values)}", ~absent & ~values.isin(column.values).to_numpy()
        return
    numbers = values.to_numpy(dtype=float)
    low, high = (0.0, 1.0) if column.type == "boolean" else (column.min, column.max)
    if low is not None:
        yield f"at least {low:g}", numbers < low
    if high is not None:
        yield f"at most {high:g}", numbers > high
    yield "a finite number", np.isinf(numbers)
    if column.type != "number":
        yield "a whole number", ~absent & (np.rint(numbers) != numbers)


def _files(where: str, what: str, settings: Settings, since: datetime | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each Parquet file at `where` that may hold rows from `since` on, sorted by name."""
    store = open_store(where, settings)
    keys = [key for key in store.keys("") if key.endswith(".parquet")]
    if not keys:
        parent, _, name = where.rstrip("/").rpartition("/")
        store, keys = open_store(parent or ("/" if where.startswith("/") else "."), settings), [name]
        if not name or not store.exists(name):
            raise SourceError(
                f"{where}: expected {what} as a Parquet file or a directory of .parquet files, found none"
            )
    for key in keys if since is None else _recent(keys, since):
        yield f"{store.uri.rstrip('/')}/{key}", store.read_bytes(key)


def _recent(keys: list[str], since: datetime) -> list[str]:
    """Leave out the folders of earlier days. The last file stays in any case, because its columns are needed."""
    # A batch that spans midnight lies in the folder of its first row's day, so one more day is kept.
    first = since.date() - timedelta(days=1)
    return [key for key in keys if _day(key) >= first] or keys[-1:]


def _day(key: str) -> date:
    """Parse the day in the name of a file's folder; other files get the latest possible day, so that they stay."""
    match = _DAY.search(key)
    try:
        return date.fromisoformat(match[1]) if match else date.max
    except ValueError:
        return date.max


def _table(content: bytes, expected: Sequence[str], what: str, origin: str, others: bool = False) -> pa.Table:
    """Read only the expected columns of a file; `others` says whether the file may have more."""
    try:
        with parquet.ParquetFile(pa.BufferReader(content)) as file:
            names = [name for name in file.schema_arrow.names if not name.startswith(_KEPT_AS_INDEX)]
            _refuse_columns([name for name in names if name in expected or not others], expected, what, origin)
            return file.read(columns=list(expected))
    except (pa.ArrowException, OSError) as error:
        line = " ".join(str(error).split())
        raise SourceError(f"{origin}: expected {what} as Parquet, but it can't be read ({line})") from None


def _refuse_columns(names: Sequence[str], expected: Sequence[str], what: str, origin: str) -> None:
    problems = {
        "missing": [name for name in expected if name not in names],
        "unknown": [name for name in names if name not in expected],
    }
    if any(problems.values()):
        differences = "; ".join(f"{kind}: {some(columns)}" for kind, columns in problems.items() if columns)
        raise DataError(f"{origin}: expected {what} with the columns {some(list(expected))}; {differences}")


def _typed(table: pa.Table, origin: str, inputs: dict[str, Column]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: _input(table[name], inputs[name], origin) if name in inputs else _own(table[name], name, origin)
            for name in table.column_names
        }
    )


def _own(values: pa.ChunkedArray, name: str, origin: str) -> pd.Series:
    """Read one of the log's own columns, as opposed to a contract input. Only customer_id may be empty."""
    if name in (SCORED_AT, OBSERVED_AT):
        expected, fits, kind = "timestamps", pa.types.is_timestamp, pa.timestamp("us", tz="UTC")
    elif name == OUTCOME:
        expected, fits, kind = "true and false", pa.types.is_boolean, pa.bool_()
    elif name == SCORE:
        expected, fits, kind = "numbers", pa.types.is_floating, pa.float64()
    else:
        expected, fits, kind = "text", _is_text, pa.string()
    if not (fits(values.type) or pa.types.is_null(values.type)):
        raise _mistyped(name, expected, values.type, origin)
    series: pd.Series = _cast(values, kind, name, expected, origin).to_pandas()
    empty = np.flatnonzero(series.isna())
    if empty.size and name != CUSTOMER:
        raise DataError(f"{origin}, row {empty[0] + 1}: expected a value in column {name!r}, got nothing")
    return series


def _input(values: pa.ChunkedArray, column: Column, origin: str) -> pd.Series:
    if column.type == "category":
        if not (_is_text(values.type) or pa.types.is_null(values.type)):
            raise _mistyped(column.name, "text", values.type, origin)
        words: pd.Series = _cast(values, pa.string(), column.name, "text", origin).to_pandas().astype(object)
        return words.mask(words.isin(column.missing), None)
    if not (_is_number(values.type) or pa.types.is_null(values.type)):
        raise _mistyped(column.name, "numbers", values.type, origin)
    numbers: pd.Series = _cast(values, pa.float64(), column.name, "numbers", origin).to_pandas().astype("float64")
    absent = pd.to_numeric(pd.Series(column.missing, dtype=object), errors="coerce").dropna()
    return numbers.mask(numbers.isin(absent))


def _cast(values: pa.ChunkedArray, kind: pa.DataType, name: str, expected: str, origin: str) -> pa.ChunkedArray:
    try:
        return (values.cast(pa.uint8()) if pa.types.is_boolean(values.type) and kind != values.type else values).cast(
            kind
        )
    except pa.ArrowException:
        raise _mistyped(name, expected, values.type, origin) from None


def _mistyped(name: str, expected: str, arrived: pa.DataType, origin: str) -> DataError:
    return DataError(f"{origin}: expected {expected} in column {name!r}, got {arrived}")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _once(frame: pd.DataFrame, content: list[str], where: str) -> DistinctRows:
    """Keep each decision once. A repeated delivery has the same `content`; another content is an error."""
    repeated = frame[DECISION].duplicated(keep=False).to_numpy()
    repeated[repeated] = frame.loc[repeated, content].duplicated().to_numpy()
    unique = frame[~repeated]
    differing = unique[DECISION].duplicated()
    if differing.any():
        twice = unique.loc[differing, DECISION].iloc[0]
        raise DataError(f"{where}: decision {twice!r} is there twice, with different content; keep the true one")
    return DistinctRows(unique.reset_index(drop=True), int(repeated.sum()))
