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
        _join_one_by_one(market, connection, features, rows, by)
        yield from _batches(connection, _query(market, features, by))


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
        connection.execute(f"CREATE OR REPLACE TEMP TABLE f0 AS {_running_sums(market, [feature])}")
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


def _join_one_by_one(
    market: Market, connection: duckdb.DuckDBPyConnection, features: Sequence[Feature], rows: str, by: Sequence[str]
) -> None:
    """Join each table and each feature alone with the rows, as DuckDB sorts all columns anew for each of its joins."""
    parts = [_side("users", "_user", market.users, market.user_columns)] if "user" in by else []
    parts += [_side("products", "_product", market.products, market.product_columns)] if "product" in by else []
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE asked AS SELECT row_number() OVER (ORDER BY _at, _user, _product) AS _row, _user,"
        f" _product, _at, _position FROM ({rows}) ORDER BY _row"
    )
    for place, alike in enumerate(_alike(features)):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE sums AS {_running_sums(market, alike)}")
        found = [_feature(feature, "sums") for feature in alike]
        # Features of the same events share the joins that are the same.
        cells, joins = (list(dict.fromkeys(chain.from_iterable(part))) for part in zip(*found, strict=True))
        _join(connection, f"f{place}", (cells, joins))
    connection.execute("DROP TABLE IF EXISTS sums")
    for place, part in enumerate(parts):
        _join(connection, f"s{place}", part)


def _alike(features: Sequence[Feature]) -> list[list[Feature]]:
    """Group features by the events that they are of."""
    groups = dict[tuple[object, ...], list[Feature]]()
    for feature in features:
        groups.setdefault((feature.by, frozenset(feature.events)), []).append(feature)
    return [*groups.values()]


def _join(connection: duckdb.DuckDBPyConnection, name: str, part: tuple[list[str], list[str]]) -> None:
    cells, joins = part
    query = f"SELECT {', '.join(cells)} FROM asked r {' '.join(joins)} ORDER BY r._row"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")


def _query(market: Market, features: Sequence[Feature], by: Sequence[str]) -> str:
    """Write the SQL that puts the tables of `_join_one_by_one`, which have the same order, side by side."""
    sides = [f"s{place}" for place in range(("user" in by) + ("product" in by))]
    tables = [*sides, *(f"f{place}" for place in range(len(_alike(features))))]
    cells = [
        f"asked._user AS {quoted(market.users.key)}",
        f"asked._product AS {quoted(market.products.key)}",
        f"asked._at AS {quoted(market.interactions.time)}",
        f"asked._position AS {quoted(market.interactions.position)}",
        *(f"{side}.*" for side in sides),
    ]
    for feature in features:
        cells += map(quoted, feature.columns)
        cells += [quoted(END + feature.name)] if feature.time_to_live is not None else []
    return f"SELECT {', '.join(cells)} FROM {' POSITIONAL JOIN '.join(['asked', *tables])}"


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
    for name, window in feature.columns.items():
        value = f"(epoch_us(r._at) - epoch_us({sums}._at)) / 86400e6"
        if feature.aggregate != "recency":
            total = f"{sums}._{feature.aggregate}"
            value = f"coalesce({total}, 0)" if feature.time_to_live is None else total
            if window is not None:
                earlier = f"before_{round(window * 86400e6)}"
                joins.append(_before(sums, earlier, keys, f"r._at - to_seconds({window * 86400!r})"))
                value = f"{value} - coalesce({earlier}._{feature.aggregate}, 0)"
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


def _running_sums(market: Market, features: Sequence[Feature]) -> str:
    """Write the SQL of running sums, with one row for each moment with events, so that no two rows of a join tie.

    Parameters
    ----------
    features : of the same events
    """
    names, columns = ", ".join(map(text, features[0].events)), ", ".join(_KEYS[features[0].by])
    weights = " ".join(f"WHEN {text(event.name)} THEN {event.weight!r}" for event in market.events)
    aggregates = {"count": "count(*)", "weight": f"sum(CASE _event {weights} END)"}
    needed = [name for name in aggregates if any(feature.aggregate == name for feature in features)]
    of_moments = "".join(f", {aggregates[name]} AS _{name}" for name in needed)
    moments = f"SELECT {columns}, _at{of_moments} FROM events WHERE _event IN ({names}) GROUP BY {columns}, _at"
    running = "".join(f", sum(_{name}) OVER (PARTITION BY {columns} ORDER BY _at) AS _{name}" for name in needed)
    return f"SELECT {columns}, _at{running} FROM ({moments})"


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
