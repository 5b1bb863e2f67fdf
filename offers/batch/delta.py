"""Delta tables as input and output of scoring: customers are read from one, scored parts are appended to one."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pydantic import ValidationError

from offers.batch.customers import CustomerSchema
from offers.batch.parts import WHOLE, Manifest, Marks, Shard
from offers.batch.scored_table import check_columns, unfinished
from offers.batch.source import Source
from offers.errors import SourceError, StorageError
from offers.store.delta import DeltaTables, dataset_of

_WRITER = "offers-score"
_PART, _MANIFEST, _IDS, _CUSTOMERS = "offers.part", "offers.manifest", "offers.ids", "offers.customers"


def delta_customers(tables: DeltaTables, name: str, schema: CustomerSchema, version: int | None) -> Source:
    """Stream the customers of a Delta table, in the order of its files' names.

    Parameters
    ----------
    version : of the table; None for the newest

    Raises
    ------
    SourceError
        there is no such table, or one of its files can't be read
    DataError
        a column is missing or occurs twice, or a file lacks a column whose cells may not be empty
    """
    table, uri = tables.open(name, version), tables.uri(name)
    with tables.errors(name):
        rows = dataset_of(table)
        schema.choose(rows.schema.names, uri)
        partitioned = table.metadata().partition_columns
        for file in _sorted_files(rows):
            schema.check_file([*_names(file, uri), *partitioned], f"{uri}/{file.path}")
        total = rows.count_rows()

    def read(count: int) -> Iterator[pa.RecordBatch]:
        return delta_rows(tables, name, table, schema.names, count)

    return Source(uri, f"version {table.version()}", total, read, table.version())


def _names(file: ds.Fragment, uri: str) -> list[str]:
    try:
        return list(file.physical_schema.names)
    except (pa.ArrowException, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{uri}/{file.path}: expected a whole file of the table, but it can't be read ({line}); restore it, or name"
            " an earlier version"
        ) from None


def delta_rows(
    tables: DeltaTables, name: str, table: DeltaTable, columns: Sequence[str], count: int, files: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Stream columns of a table in batches of `count` rows at most, file by file in the order of their names.

    Parameters
    ----------
    files : paths of the files to read, as `delta_files` gives them; all by default
    """
    rows = dataset_of(table)
    for file in _sorted_files(rows):
        if files and file.path not in files:
            continue
        batches = file.scanner(
            schema=rows.schema, columns=list(columns), batch_size=count, use_threads=False
        ).to_batches()
        while True:
            with tables.errors(name):
                batch = next(batches, None)
            if batch is None:
                break
            yield batch


def delta_files(table: DeltaTable) -> tuple[list[str], pa.Schema]:
    """List the paths of a table's files, sorted, and the schema of their rows."""
    rows = dataset_of(table)
    return [file.path for file in _sorted_files(rows)], rows.schema


def _sorted_files(rows: ds.Dataset) -> list[ds.Fragment]:
    return sorted(rows.get_fragments(), key=lambda fragment: fragment.path)


def scored_files(tables: DeltaTables, name: str, columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """Read a scored table a file at a time; yields each file's name for messages, and its rows."""
    table = tables.open(name)
    with tables.errors(name):
        rows = dataset_of(table)
        manifest = _manifest(table, tables.uri(name))
        if manifest and not _is_complete(table, manifest.shards):
            raise unfinished(tables.uri(name))
    check_columns(rows.schema.names, columns, tables.uri(name))
    for file in _sorted_files(rows):
        with tables.errors(name):
            yield f"{tables.uri(name)}/{file.path}", file.to_table(schema=rows.schema, columns=columns)


def manifest_of(tables: DeltaTables, name: str) -> Manifest | None:
    """Tell with which inputs a scored table was made; None where it is none of ours, or its run has not ended."""
    table = tables.open(name)
    with tables.errors(name):
        manifest = _manifest(table, tables.uri(name))
        return manifest if manifest and _is_complete(table, manifest.shards) else None


def _manifest(table: DeltaTable, uri: str) -> Manifest | None:
    written = next((entry[_MANIFEST] for entry in table.history() if _MANIFEST in entry), None)
    return _parsed(written, uri) if written else None


def scored_customers(tables: DeltaTables, name: str) -> int:
    """Count the customers of a scored table, those without an offer included, by the marks of its parts."""
    table = tables.open(name)
    with tables.errors(name):
        return sum(int(entry[_CUSTOMERS]) for entry in table.history() if _PART in entry)


def _is_complete(table: DeltaTable, shards: int) -> bool:
    writers = [_end(_writer(Shard(number, shards))) for number in range(1, shards + 1)]
    return all(table.transaction_version(writer) is not None for writer in writers)


@dataclass(frozen=True)
class DeltaParts:
    """Parts as numbered appends, which Delta accepts once each; the table's history records each part's customers."""

    tables: DeltaTables
    name: str
    shard: Shard = WHOLE
    _history: dict[int, dict[str, str]] = field(default_factory=dict)
    _run: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def hold(self, manifest: Manifest) -> Iterator[None]:
        self._run[_MANIFEST] = manifest.model_dump_json()
        self._look(manifest)
        yield

    def _look(self, manifest: Manifest) -> None:
        if not self.tables.holds(self.name):
            return
        uri, table = self.tables.uri(self.name), self.tables.open(self.name)
        with self.tables.errors(self.name):
            last = table.transaction_version(_writer(self.shard)) or 0
            self._history.update({int(entry[_PART]): entry for entry in table.history() if _PART in entry})
            if not self._history and table.file_uris():
                raise StorageError(f"{uri}: holds rows of another origin; name another table")
        own = [part for part in range(1, last + 1) if self.shard.has(part)]
        if missing := [part for part in own if part not in self._history]:
            raise StorageError(f"{uri}: its history no longer tells of part {missing[0]}; name another table")
        for entry in self._history.values():
            manifest.check(_parsed(entry[_MANIFEST], uri), uri)

    def marks(self, part: int) -> Marks | None:
        entry = self._history.get(part)
        return Marks(entry[_CUSTOMERS], entry[_IDS]) if entry else None

    def write(self, part: int, rows: pa.Table, marks: Marks) -> None:
        note = self._run | {_PART: str(part), _IDS: marks.ids, _CUSTOMERS: marks.customers}
        if self.tables.append(self.name, _plain(rows), _writer(self.shard), part, note=note):
            return
        # Another process was faster; it must have written what this one would have written.
        self._look(Manifest.model_validate_json(self._run[_MANIFEST]))
        if self.marks(part) != marks:
            raise StorageError(f"{self.tables.uri(self.name)}: another process writes other customers; wait for it")

    def finish(self, schema: pa.Schema) -> None:
        self.tables.append(self.name, _plain(schema.empty_table()), _end(_writer(self.shard)), 1)


def _writer(shard: Shard) -> str:
    """Name a shard's appends; each shard counts its own, since Delta takes rising numbers only."""
    return _WRITER if shard == WHOLE else f"{_WRITER}-{shard}"


def _end(writer: str) -> str:
    return f"{writer}-end"


def _parsed(manifest: str, uri: str) -> Manifest:
    try:
        return Manifest.model_validate_json(manifest)
    except ValidationError:
        raise StorageError(f"{uri}: was begun by another version of Offers; name another table") from None


def _plain(rows: pa.Table) -> pa.Table:
    """Turn dictionary columns into plain text, because Delta tables have no dictionaries."""
    kinds = [pa.string() if pa.types.is_dictionary(field.type) else field.type for field in rows.schema]
    return rows.cast(pa.schema(list(zip(rows.column_names, kinds, strict=True))))
