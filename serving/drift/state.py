"""The state directory: rows that wait and the ledger, in one Parquet file that is replaced in one step."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from offers.files import os_errors, sync
from serving.drift.ledger import WatchRecord

_LEDGER = b"offers.drift.ledger"


class Damaged(Exception):  # noqa: N818
    """The file of the state is not one that this version writes."""


@dataclass(frozen=True)
class StateFile:
    """Where the state is kept. One file, so that rows and ledger can never contradict each other after a crash."""

    directory: Path
    schema: pa.Schema

    @property
    def path(self) -> Path:
        return self.directory / "state.parquet"

    def save(self, rows: pd.DataFrame | None, ledger: str) -> None:
        """Replace the state, its bytes on the disk first.

        Raises
        ------
        StorageError
            the directory can't be written
        """
        part = self.path.with_suffix(".part")
        with os_errors(self.directory):
            if not self.directory.exists():
                self.directory.mkdir(parents=True)
            pq.write_table(self._table(rows).replace_schema_metadata({_LEDGER: ledger.encode()}), part)
            sync(part)
            part.replace(self.path)
            sync(self.directory)

    def load(self) -> tuple[pd.DataFrame, WatchRecord] | None:
        """Read the state, None where there is none yet.

        Raises
        ------
        Damaged
            says what is wrong with the file
        StorageError
            the file can't be read
        """
        with os_errors(self.directory):
            if not self.path.exists():
                return None
            content = self.path.read_bytes()
        try:
            table = pq.read_table(pa.BufferReader(content))
            ledger = WatchRecord.from_json((table.schema.metadata or {})[_LEDGER].decode())
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise Damaged(f"{self.path}: {type(error).__name__}: {error}") from None
        return table.to_pandas(), ledger

    def set_aside(self) -> Path:
        """Move a damaged file out of the way and keep it."""
        aside = self.path.with_suffix(".damaged")
        self.path.replace(aside)
        return aside

    def _table(self, rows: pd.DataFrame | None) -> pa.Table:
        if rows is None:
            return self.schema.empty_table()
        return pa.Table.from_pandas(rows, schema=self.schema, preserve_index=False)
