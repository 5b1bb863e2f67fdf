"""The tables of a market in DuckDB: read, typed, and checked against the contract."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from offers.contract.column import Column
from offers.contract.market import Market, Table
from offers.contract.values import limits, numbers_among
from offers.errors import SourceError
from offers.files import os_errors
from offers.settings import Settings

MEMORY = "1GB"
"""What DuckDB takes before it spills to disk."""

_TYPES = {"integer": "BIGINT", "number": "DOUBLE", "category": "VARCHAR", "boolean": "BOOLEAN"}


def fetch_tables(market: Market, source: str, target: Path, settings: Settings) -> None:
    """Copy the three tables of a market from a directory or s3:// URI into the directory `target`.

    Raises
    ------
    SourceError
        a table is missing, or can't be read
    """
    target.mkdir(parents=True, exist_ok=True)
    for table in (market.users, market.products, market.interactions):
        path = target / table.file
        if source.startswith("s3://"):
            from offers.data.s3_file import S3File

            remote = S3File(f"{source.rstrip('/')}/{table.file}", settings.s3)
            with remote.open(0, "") as reply, os_errors(path), path.open("wb") as file:
                file.writelines(reply.chunks)
        else:
            with os_errors(Path(source, table.file), SourceError):
                shutil.copyfile(Path(source, table.file), path)


@contextmanager
def opened_products(market: Market, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect to the view `products` of a file, which may have another name than the contract says.

    Raises
    ------
    SourceError
        the file can't be read, or breaks the contract
    """
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        _create(connection, "products", path, market.products, market.product_columns)
        yield connection


@contextmanager
def opened(market: Market, directory: Path, scratch: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect to the views `users`, `products` and `events`.

    `users` and `products` have `_key`, `_since` and the contract's columns; `events` has `_user`, `_product`, `_event`,
    `_at` and `_position`. Ids are text. Data beyond memory goes to `scratch`, by default the system's place for
    temporary files.

    Raises
    ------
    SourceError
        a table is missing, can't be read, or breaks the contract
    """
    with os_errors(directory), TemporaryDirectory(prefix=".duckdb-", dir=scratch) as spill:
        # DuckDB must not download extensions.
        settings = {"memory_limit": MEMORY, "temp_directory": spill, "autoinstall_known_extensions": "false"}
        with duckdb.connect(config={**settings}) as connection:
            for name, table, columns in (
                ("users", market.users, market.user_columns),
                ("products", market.products, market.product_columns),
            ):
                _create(connection, name, directory / table.file, table, columns)
            path = directory / market.interactions.file
            with _errors_of(path):
                _create_events(connection, market, path)
            yield connection


def _create(
    connection: duckdb.DuckDBPyConnection, view: str, path: Path, table: Table, columns: tuple[Column, ...]
) -> None:
    """Create the view of a table of users or products, and check it."""
    with _errors_of(path):
        _check_columns(connection, path, (table.key, table.time, *(column.name for column in columns)))
        connection.execute(f"CREATE VIEW {view} AS {_table(path, table, columns)}")
        _check_rows(connection, path, view, columns)


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: object) -> str:
    """Quote a text for SQL."""
    return "'" + str(value).replace("'", "''") + "'"


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file; the market's contract names it")
    try:
        yield
    except duckdb.Error as error:
        raise SourceError(f"{path}: can't be read: {str(error).splitlines()[0]}") from None


def _source(path: Path) -> str:
    if path.suffix == ".csv":
        return f"read_csv({text(path)}, all_varchar = true, header = true)"
    return f"read_parquet({text(path)})"


def _check_columns(connection: duckdb.DuckDBPyConnection, path: Path, names: tuple[str, ...]) -> None:
    there = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {_source(path)}").fetchall()]
    if lacking := [name for name in names if name not in there]:
        raise SourceError(f"{path}: it lacks the column {lacking[0]!r}; it has {', '.join(there)}")


def _table(path: Path, table: Table, columns: tuple[Column, ...]) -> str:
    cells = ", ".join(f"{_cell(column)} AS {quoted(column.name)}" for column in columns)
    keys = f"CAST({quoted(table.key)} AS VARCHAR) AS _key, CAST({quoted(table.time)} AS TIMESTAMP) AS _since"
    return f"SELECT {keys}, {cells} FROM {_source(path)}"


def _cell(column: Column) -> str:
    name, kind = quoted(column.name), _TYPES[column.type]
    if not column.missing:
        return f"CAST({name} AS {kind})"
    if column.is_numeric:
        codes = ", ".join(map(repr, numbers_among(column.missing)))
        return f"CASE WHEN CAST({name} AS DOUBLE) IN ({codes}) THEN NULL ELSE CAST({name} AS {kind}) END"
    codes = ", ".join(map(text, column.missing))
    return f"CASE WHEN CAST({name} AS VARCHAR) IN ({codes}) THEN NULL ELSE CAST({name} AS {kind}) END"


def _check_rows(connection: duckdb.DuckDBPyConnection, path: Path, view: str, columns: tuple[Column, ...]) -> None:
    """Refuse rows without id or moment, ids that occur twice at one moment, and cells that break the contract."""
    twice = connection.execute(
        f"SELECT _key, _since FROM {view} GROUP BY ALL HAVING count(*) > 1 OR _key IS NULL OR _since IS NULL LIMIT 1"
    ).fetchone()
    if twice is not None:
        fault = "it has a row without id or moment" if None in twice else f"id {twice[0]!r} stands twice at {twice[1]}"
        raise SourceError(f"{path}: {fault}")
    for column in columns:
        name = quoted(column.name)
        faults = f"{name} IS NOT NULL AND NOT ({_allowed(column)})"
        if not column.may_be_missing:
            faults = f"({faults}) OR {name} IS NULL"
        query = f"SELECT count(*), any_value({name}) FROM {view} WHERE {faults}"
        # A result of which rows may be left would refuse other questions.
        [(count, example)] = connection.execute(query).fetchall()
        if count:
            raise SourceError(
                f"{path}: column {column.name!r} has {count} values outside of the contract, such as {example!r}"
            )


def _allowed(column: Column) -> str:
    if column.type == "boolean" or (column.type == "category" and column.unknown == "missing"):
        return "true"
    if column.type == "category":
        return f"{quoted(column.name)} IN ({', '.join(map(text, column.values))})"
    low, high = limits(column)
    return f"{quoted(column.name)} BETWEEN {low!r} AND {high!r}"


def _create_events(connection: duckdb.DuckDBPyConnection, market: Market, path: Path) -> None:
    table = market.interactions
    columns = {
        market.users.key: ("_user", "VARCHAR"),
        market.products.key: ("_product", "VARCHAR"),
        table.event: ("_event", "VARCHAR"),
        table.time: ("_at", "TIMESTAMP"),
        table.position: ("_position", "INTEGER"),
    }
    _check_columns(connection, path, tuple(columns))
    cells = ", ".join(f"CAST({quoted(name)} AS {kind}) AS {short}" for name, (short, kind) in columns.items())
    connection.execute(f"CREATE VIEW events AS SELECT {cells} FROM {_source(path)}")
    names = ", ".join(text(event.name) for event in market.events)
    strange = connection.execute(
        f"SELECT _event FROM events WHERE coalesce(_event NOT IN ({names}), true) OR _at IS NULL LIMIT 1"
    ).fetchone()
    if strange is not None:
        raise SourceError(f"{path}: each row needs a moment and one of the events {names}; one has {strange[0]!r}")
