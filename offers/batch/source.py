"""Customers from any source, in batches of a fixed size, so that memory does not grow with their number."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from offers.batch.customers import CustomerSchema
from offers.batch.places import delta_table, is_delta
from offers.contract import secret
from offers.data import sources, table_file
from offers.data.download import ByteProgress
from offers.errors import SourceError
from offers.files import os_errors
from offers.settings import Settings

_FILES = ("file", "http", "https", "s3", "simulated")


@dataclass(frozen=True)
class Description:
    """What a run notes of its customers, whoever reads them.

    Attributes
    ----------
    origin : name of the source for messages, without secrets
    state : size and time of a file, which must not change between a run and its continuation; empty for a query
    """

    origin: str
    state: str


@dataclass(frozen=True)
class Source(Description):
    """Customers to stream.

    Attributes
    ----------
    total : number of customers, None where only reading can tell
    version : of a Delta table
    """

    total: int | None
    read: Callable[[int], Iterator[pa.RecordBatch]]
    version: int | None = None

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all customers in batches of `rows`; the last batch may be smaller."""
        return cut(self.read(rows), rows)


def open_customers(
    where: str,
    schema: CustomerSchema,
    settings: Settings,
    query: str = "",
    version: int | None = None,
    progress: ByteProgress | None = None,
) -> Source:
    """Find the customers, and check that their columns are there.

    Parameters
    ----------
    where : Delta table, Parquet or CSV file (in the form that the contract declares), http(s)://, s3:// or SQLAlchemy
        URL
    query : SQL text for a database; it should order its rows, or a killed run can't be continued
    version : version of a Delta table, None for the newest

    Raises
    ------
    SourceError
        there is no such file or database, or it can't be read
    DataError
        a column is missing or occurs twice
    """
    if is_delta(where):
        from offers.batch.delta import delta_customers

        return delta_customers(*delta_table(where, settings), schema, version)
    if version is not None:
        raise SourceError(f"{where}: expected a Delta table, which alone has versions; leave --version out")
    scheme, is_url, _ = secret.opened(where).uri.partition("://")
    if is_url and scheme not in _FILES:
        return _asked(where, schema, query)
    path = sources.fetch(schema.contract, settings, where, progress)
    with os_errors(path, SourceError), path.open("rb") as file:
        is_parquet, status = file.read(4) == b"PAR1", path.stat()
    state = f"{status.st_size} bytes of {status.st_mtime_ns}"
    if is_parquet:
        return Source(
            where, state, _parquet_rows(path, schema, where), lambda rows: _parquet(path, schema, where, rows)
        )
    form = schema.contract.source.format
    schema.choose(table_file.header(path, form, where), where)
    return Source(where, state, _lines(path) - 1, lambda _: table_file.stream(path, form, schema.names, where))


def _asked(where: str, schema: CustomerSchema, query: str) -> Source:
    from offers.data import sql

    address, origin = secret.opened(where), where if where.startswith("${") else sql.shown(where)
    if not query:
        raise SourceError(f"{origin}: expected its SQL text in --query, or in contract key source.query")
    choice = partial(schema.choose, origin=origin)

    def read(rows: int) -> Iterator[pa.RecordBatch]:
        with address.errors():
            yield from sql.stream(address.uri, query, choice, rows)

    return Source(origin, "", None, read)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _parquet_rows(path: Path, schema: CustomerSchema, origin: str) -> int:
    with _readable(path, origin) as file:
        schema.choose(file.schema_arrow.names, origin)
        return int(file.metadata.num_rows)


def _parquet(path: Path, schema: CustomerSchema, origin: str, rows: int) -> Iterator[pa.RecordBatch]:
    with _readable(path, origin) as file:
        batches = file.iter_batches(rows, columns=schema.names)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise _corrupt(origin, error) from None
            if batch is None:
                return
            yield batch


def _readable(path: Path, origin: str) -> parquet.ParquetFile:
    try:
        # A buffer would keep the bytes of all that was read.
        return parquet.ParquetFile(path, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _corrupt(origin, error) from None


def _corrupt(origin: str, error: Exception) -> SourceError:
    line = " ".join(str(error).split())[:200]
    return SourceError(f"{origin}: expected a whole Parquet file, but it can't be read ({line}); write it again")


def cut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Join and part batches, so that each but the last has `rows` rows."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        start = 0
        while (room := rows - sum(map(len, waiting))) <= len(batch) - start:
            yield _joined([*waiting, batch.slice(start, room)])
            waiting, start = [], start + room
        waiting.append(batch.slice(start))
    if any(map(len, waiting)):
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.to_batches()[0]
