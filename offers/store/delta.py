"""Delta tables below one root, a directory or s3://bucket/prefix: appended exactly once, read by any engine."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, Self

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow import fs

from offers.errors import SourceError, StorageError
from offers.files import FULL, path_of
from offers.settings import S3Settings, Settings

_RACES = 8
_NO_SPACE = "No space left on device"


def dataset_of(table: DeltaTable) -> ds.Dataset:
    """Build the dataset of a table's files.

    Arrow reads the files of a directory by itself. By default it reads them through Python: its own threads close
    them, and abort a process that ends at that moment.
    """
    if table.table_uri.startswith("s3://"):
        return table.to_pyarrow_dataset()
    files = fs.SubTreeFileSystem(str(path_of(table.table_uri)), fs.LocalFileSystem())
    return table.to_pyarrow_dataset(filesystem=files)


@dataclass(frozen=True)
class DeltaTables:
    """The tables of one root.

    Attributes
    ----------
    root : absolute path or s3://bucket/prefix, without a slash at its end
    options : connection options of the object store
    """

    root: str
    options: dict[str, str]
    _appended: dict[str, DeltaTable] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def at(cls, uri: str, settings: Settings) -> Self:
        """Name the root; nothing is read or written yet.

        Raises
        ------
        StorageError
            another kind of URI than a path, file:// or s3://
        """
        if uri.startswith("s3://"):
            return cls(uri.rstrip("/"), _s3_options(settings.s3))
        if not uri or ("://" in uri and not uri.startswith("file://")):
            raise StorageError(f"tables {uri!r}: expected a directory, file:///path or s3://bucket/prefix")
        return cls(str(path_of(uri).resolve()), {})

    def uri(self, name: str) -> str:
        """Build the URI of a table."""
        return f"{self.root}/{name}"

    def holds(self, name: str) -> bool:
        """Whether there is a table of this name."""
        with self.errors(name):
            return DeltaTable.is_deltatable(self.uri(name), self.options)

    def open(self, name: str, version: int | None = None) -> DeltaTable:
        """Open a table, by default at its newest version.

        Raises
        ------
        SourceError
            there is no such table
        StorageError
            the store can't be reached, or refuses
        """
        try:
            with self.errors(name):
                return DeltaTable(self.uri(name), version, storage_options=self.options)
        except TableNotFoundError:
            raise SourceError(f"{self.uri(name)}: expected a Delta table, found none") from None

    def append(
        self,
        name: str,
        rows: pa.Table,
        writer: str,
        number: int,
        partition: Sequence[str] = (),
        note: Mapping[str, str] | None = None,
        widen: Collection[str] = (),
    ) -> bool:
        """Append rows exactly once for each writer and number, even if the call is repeated or made twice at once.

        Parameters
        ----------
        number : rises with each append of `writer`; rows whose number is not above the last are not appended again
        partition : columns whose values name the folders, if the table is made now
        note : entries for this append in the table's history
        widen : columns that the table may lack; they are added, with null in the rows that are there. Where any are
            named, rows may lack columns of the table, too

        Returns
        -------
        bool
            whether the rows were appended now

        Raises
        ------
        StorageError
            the store can't be reached or is full, or the rows have other columns than the table
        """
        with self.errors(name):
            for _ in range(_RACES):
                # A refused append does no harm: the next try sees what was appended in between.
                with suppress(CommitFailedError):
                    return self._append_to(name, rows, writer, number, partition, note, widen)
            return self._append_to(name, rows, writer, number, partition, note, widen)

    def _append_to(
        self,
        name: str,
        rows: pa.Table,
        writer: str,
        number: int,
        partition: Sequence[str],
        note: Mapping[str, str] | None,
        widen: Collection[str],
    ) -> bool:
        table = self._newest(name) or self._made(name, rows.schema, partition)
        fresh = self._append_once(table, rows, writer, number, note, widen)
        self._appended[name] = table
        return fresh

    def _newest(self, name: str) -> DeltaTable | None:
        """Bring the table of the last append up to date, since opening a table reads all that it has ever been told.

        None where nothing was appended yet, or where the table was removed or made anew since: its newest commit is
        gone then.
        """
        table = self._appended.pop(name, None)
        if table is None:
            return None
        table.update_incremental()
        return table if table.history(1) else None

    @staticmethod
    def _append_once(
        table: DeltaTable,
        rows: pa.Table,
        writer: str,
        number: int,
        note: Mapping[str, str] | None,
        widen: Collection[str],
    ) -> bool:
        last = table.transaction_version(writer)
        if last is not None and number <= last:
            return False
        once = CommitProperties(
            custom_metadata=dict(note) if note else None, app_transactions=[Transaction(writer, number)]
        )
        names, there = set(rows.schema.names), {field.name for field in table.schema().fields}
        # A later version may have added columns that we don't know.
        merges = bool(widen) and names != there and names - there <= set(widen)
        schema_mode: Literal["merge"] | None = "merge" if merges else None
        write_deltalake(table, rows, mode="append", schema_mode=schema_mode, commit_properties=once)
        return True

    def _made(self, name: str, schema: pa.Schema, partition: Sequence[str]) -> DeltaTable:
        """Open a table, or make it if there is none; of several processes that make it at once, one succeeds."""
        uri, options, refusal = self.uri(name), self.options, "it is not there"
        with suppress(TableNotFoundError):
            return DeltaTable(uri, storage_options=options)
        try:
            DeltaTable.create(
                uri,
                schema,
                partition_by=list(partition),
                storage_options=options,
                configuration=_configuration(schema),
            )
        except DeltaError as error:
            refusal = " ".join(str(error).split())[:300]
        try:
            return DeltaTable(uri, storage_options=options)
        except TableNotFoundError:
            raise StorageError(f"{uri}: the table can't be made ({refusal})") from None

    @contextmanager
    def errors(self, name: str) -> Iterator[None]:
        """Turn delta-rs' errors about a table into a StorageError."""
        try:
            yield
        except TableNotFoundError:
            raise
        except (DeltaError, OSError, pa.ArrowException) as error:
            line = " ".join(str(error).split())[:300]
            reason = FULL if _NO_SPACE in line else f"the table can't be read or written ({line})"
            raise StorageError(f"{self.uri(name)}: {reason}") from None


def _configuration(schema: pa.Schema) -> dict[str, str | None]:
    """Record minimum and maximum only for moments, because erased values must not stay in a table's history."""
    moments = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    return (
        {"delta.dataSkippingStatsColumns": ",".join(moments)} if moments else {"delta.dataSkippingNumIndexedCols": "0"}
    )


def _s3_options(s3: S3Settings) -> dict[str, str]:
    """Build the options by delta-rs' names. Commits are conditional puts, so one of two writers of a version wins."""
    options = {
        "aws_access_key_id": s3.access_key,
        "aws_secret_access_key": s3.secret_key.get_secret_value(),
        "aws_session_token": s3.session_token.get_secret_value(),
        "aws_role_arn": s3.role_arn,
        "aws_web_identity_token_file": str(s3.token_file or ""),
        "aws_region": s3.region or "us-east-1",
        "aws_endpoint_url": f"http{'s' if s3.secure else ''}://{s3.endpoint}" if s3.endpoint else "",
        "aws_allow_http": "" if s3.secure else "true",
    }
    present = {key: value for key, value in options.items() if value}
    return present | {"aws_conditional_put": "etag", "timeout": "30s", "connect_timeout": "5s", "max_retries": "2"}
