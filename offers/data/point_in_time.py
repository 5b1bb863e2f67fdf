"""Features of a market as of a moment: DuckDB joins the data that was known before it, and nothing later."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from offers.contract.column import Column
from offers.contract.market import Feature, Market, Table
from offers.contract.pairs import pair_values
from offers.data.market_tables import opened, quoted, text
from offers.errors import ContractError, SourceError
from offers.files import os_errors

BATCH = 100_000
"""Rows that are held at once."""

END = "_until "
"""What the names of columns begin with that say until when a value holds."""

FROM, NEWEST = "_from", "_newest"
"""The columns of `changes`: the moment from which a row holds, and that of the newest event."""

_KEYS = {"user": ("_user",), "product": ("_product",), "pair": ("_user", "_product")}


@dataclass(frozen=True)
class Joined:
    """The result of a join: the number of rows, and for each source the number of rows beyond its time to live."""

    rows: int
    stale: dict[str, int]


def write_features(market: Market, directory: Path, event: str, output: Path) -> Joined:
    """Write a row for each interaction of one kind, with the data known at that moment, to a Parquet file.

    A row has the ids of user and product, moment and position; the columns of both, from their newest rows at or before
    the moment; the columns of pairs; and the features of the events before the moment. Rows are sorted by moment, user
    and product.

    Raises
    ------
    ContractError
        the market has no such event
    SourceError
        a table is missing, can't be read, or breaks the contract
    StorageError
        the output can't be written
    """
    if event not in (names := [one.name for one in market.events]):
        raise ContractError(f"market {market.name}: expected one of the events {', '.join(names)}, got {event!r}")
    part = output.with_name(f"{output.name}.part")
    with os_errors(output), opened(market, directory, output.parent) as connection:
        try:
            counts = _write(market, connection, f"SELECT * FROM events WHERE _event = {text(event)}", part)
            part.replace(output)
        finally:
            part.unlink(missing_ok=True)
    return counts


def _write(market: Market, connection: duckdb.DuckDBPyConnection, rows: str, path: Path) -> Joined:
    counts, number = dict[str, int](), 0
    moment = market.interactions.time
    writer: parquet.ParquetWriter | None = None
    for table in joined(market, connection, rows, ("user", "product", "pair")):
        number += len(table)
        ends = [name for name in table.column_names if name.startswith(END)]
        for name in ends:
            stale = pc.sum(pc.less(table[name], table[moment])).as_py() or 0
            counts[name.removeprefix(END)] = counts.get(name.removeprefix(END), 0) + stale
        plain = _with_pairs(market, table.drop_columns(ends))
        writer = writer or parquet.ParquetWriter(path, plain.schema)
        writer.write_table(plain)
    if writer is None:
        raise SourceError("there are no interactions of this kind, so there is nothing to join")
    writer.close()
    return Joined(number, counts)


def joined(market: Market, connection: duckdb.DuckDBPyConnection, rows: str, by: Sequence[str]) -> Iterator[pa.Table]:
    """Join the data that was known at the moment of each row; yields rows sorted by moment, user and product.

    Parameters
    ----------
    connection : a connection of `market_tables.opened`
    rows : SQL text whose rows have `_user`, `_product`, `_at` and `_position`
    by : which columns and features to join, of `user`, `product` and `pair`

    Yields
    ------
    pyarrow.Table
        at most BATCH rows: ids, moment and position; columns and features; and, for values with a time to live, the
        moments until which they are valid, in columns with the prefix END

    Raises
    ------
    SourceError
        the tables can't be joined
    """
    features = [feature for feature in market.features if feature.by in by]
    with _errors():
        for place, feature in enumerate(features):
            connection.execute(f"CREATE OR REPLACE TEMP TABLE f{place} AS {_running_sums(market, feature)}")
        yield from _batches(connection, _query(market, features, rows, by))


def changes(market: Market, connection: duckdb.DuckDBPyConnection, feature: Feature) -> Iterator[pa.Table]:
    """List the moments from which a feature has other values, and the values: an as-of join of them equals `joined`.

    An event counts from the microsecond after it, and no longer counts where a window or the time to live ends. A row
    holds until the next one of its key. Where there is none, there was no event yet. A recency never stays the same, so
    its rows have the moment of the newest event alone.

    Parameters
    ----------
    connection : a connection of `market_tables.opened`

    Yields
    ------
    pyarrow.Table
        keys; FROM; the feature's columns; and where it ages, NEWEST, the moment of the newest event in microseconds of
        UTC, missing beyond the time to live

    Raises
    ------
    SourceError
        the tables can't be joined
    """
    columns, joins = _feature(feature, "f0")
    cells = [] if feature.aggregate == "recency" else columns[: len(feature.columns)]
    if feature.ages:
        gone = _beyond(_end(feature.time_to_live, "f0._at"))
        cells.append(f"CASE WHEN NOT {gone} THEN epoch_us(f0._at) END AS {NEWEST}")
    lives = (*feature.columns.values(), feature.time_to_live)
    steps = [1, *(round(days * 86_400e6) + 1 for days in lives if days is not None)]
    ids = ", ".join(_KEYS[feature.by])
    points = f"SELECT DISTINCT {ids}, _at + to_microseconds(unnest({steps})) AS _at FROM f0"
    same = ", ".join(f"r.{key} AS {key}" for key in _KEYS[feature.by])
    query = f"SELECT {same}, r._at AS {FROM}, {', '.join(cells)} FROM ({points}) r {' '.join(joins)}"
    with _errors():
        connection.execute(f"CREATE OR REPLACE TEMP TABLE f0 AS {_running_sums(market, feature)}")
        yield from _batches(connection, f"{query} ORDER BY ALL")


def _batches(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.Table]:
    reader: pa.RecordBatchReader = connection.sql(query).to_arrow_reader(BATCH)
    for batch in reader:
        yield pa.Table.from_batches([batch])


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise SourceError(f"the tables can't be joined: {str(error).splitlines()[0]}") from None


def _query(market: Market, features: Sequence[Feature], rows: str, by: Sequence[str]) -> str:
    sides = [_side("users", "_user", market.users, market.user_columns)] if "user" in by else []
    sides += [_side("products", "_product", market.products, market.product_columns)] if "product" in by else []
    parts = [_feature(feature, f"f{place}") for place, feature in enumerate(features)]
    cells = [
        f"r._user AS {quoted(market.users.key)}",
        f"r._product AS {quoted(market.products.key)}",
        f"r._at AS {quoted(market.interactions.time)}",
        f"r._position AS {quoted(market.interactions.position)}",
    ]
    cells += chain.from_iterable(columns for columns, _ in (*sides, *parts))
    # The wide rows of users and products are joined last, so that the other joins move little data.
    joins = chain.from_iterable(joins for _, joins in (*parts, *sides))
    return f"SELECT {', '.join(cells)} FROM ({rows}) r {' '.join(joins)} ORDER BY r._at, r._user, r._product"


def _side(view: str, key: str, table: Table, columns: tuple[Column, ...]) -> tuple[list[str], list[str]]:
    """Write the SQL of a user's or product's cells, and of the join that finds the row valid at the moment."""
    end = _end(table.time_to_live, f"{view}._since")
    cells = [
        f"CASE WHEN NOT {_beyond(end)} THEN {view}.{quoted(column.name)} END AS {quoted(column.name)}"
        for column in columns
    ]
    if end is not None:
        cells.append(f"{end} AS {quoted(END + view)}")
    return cells, [f"ASOF LEFT JOIN {view} ON r.{key} = {view}._key AND r._at >= {view}._since"]


def _feature(feature: Feature, sums: str) -> tuple[list[str], list[str]]:
    """Write the SQL of a feature's cells and joins: running sums at the moment, minus those at a window's start."""
    keys = _KEYS[feature.by]
    end = _end(feature.time_to_live, f"{sums}._at")
    joins, cells = [_before(sums, sums, keys, "r._at")], []
    for place, (name, window) in enumerate(feature.columns.items()):
        value = f"(epoch_us(r._at) - epoch_us({sums}._at)) / 86400e6"
        if feature.aggregate != "recency":
            value = f"coalesce({sums}._sum, 0)" if feature.time_to_live is None else f"{sums}._sum"
            if window is not None:
                earlier = f"{sums}_{place}"
                joins.append(_before(sums, earlier, keys, f"r._at - to_seconds({window * 86400!r})"))
                value = f"{value} - coalesce({earlier}._sum, 0)"
        cells.append(f"CAST(CASE WHEN NOT {_beyond(end)} THEN {value} END AS DOUBLE) AS {quoted(name)}")
    if end is not None:
        cells.append(f"{end} AS {quoted(END + feature.name)}")
    return cells, joins


def _end(days: float | None, since: str) -> str | None:
    """Write the SQL of the moment at which a value's time to live ends; None where it has none."""
    return None if days is None else f"({since} + to_seconds({days * 86400!r}))"


def _beyond(end: str | None) -> str:
    """Write the SQL condition that a value is beyond its time to live; false where it has none, or is missing."""
    return "false" if end is None else f"coalesce({end} < r._at, false)"


def _running_sums(market: Market, feature: Feature) -> str:
    """Write the SQL of running sums, with one row for each moment with events, so that no two rows of a join tie."""
    weights = {event.name: event.weight if feature.aggregate == "weight" else 1 for event in market.events}
    weight = " ".join(f"WHEN {text(name)} THEN {weights[name]!r}" for name in feature.events)
    names, columns = ", ".join(map(text, feature.events)), ", ".join(_KEYS[feature.by])
    weighed = f"sum(CASE _event {weight} END) AS _sum"
    moments = f"SELECT {columns}, _at, {weighed} FROM events WHERE _event IN ({names}) GROUP BY ALL"
    return f"SELECT {columns}, _at, sum(_sum) OVER (PARTITION BY {columns} ORDER BY _at) AS _sum FROM ({moments})"


def _before(sums: str, alias: str, keys: tuple[str, ...], moment: str) -> str:
    same = " AND ".join(f"r.{key} = {alias}.{key}" for key in keys)
    return f"ASOF LEFT JOIN {sums} {alias} ON {same} AND {moment} > {alias}._at"


def _with_pairs(market: Market, table: pa.Table) -> pa.Table:
    """Insert the columns of pairs after those of products."""
    place = 4 + len(market.columns)
    for pair in market.pairs:
        sides = ({name: _values(market.by_name[name], table[name])} for name in (pair.user, pair.product))
        values = pa.array(pair_values(market, pair, *sides), from_pandas=True)
        table = table.add_column(place, pair.name, values)
        place += 1
    return table


def _values(column: Column, cells: pa.ChunkedArray) -> NDArray[np.float64]:
    """Convert cells to numbers, categories to codes; NaN where missing."""
    codes = pc.index_in(cells, pa.array(column.values, pa.string())) if column.type == "category" else cells
    return np.asarray(pc.cast(codes, pa.float64()).to_numpy(), np.float64)
