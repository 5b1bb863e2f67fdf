"""A scored table as a directory of Parquet parts."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet
from pydantic import ValidationError

from offers.batch.parts import Manifest, Marks
from offers.errors import StorageError
from offers.files import os_errors, settle

MANIFEST = "manifest.json"
_IDS, _CUSTOMERS = b"offers.ids", b"offers.customers"


@dataclass(frozen=True)
class Directory:
    """Parts as files. Each gets its name once it is on the disk, and one process at a time writes them."""

    path: Path

    @contextmanager
    def hold(self, manifest: Manifest) -> Iterator[None]:
        with os_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / ".lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise StorageError(f"{self.path}: another process is writing here; wait for it") from None
                self._begin(manifest)
                yield

    def _begin(self, manifest: Manifest) -> None:
        file = self.path / MANIFEST
        if file.exists():
            try:
                earlier = Manifest.model_validate_json(file.read_bytes())
            except ValidationError:
                raise StorageError(f"{file}: is none of ours, or damaged; name an empty directory") from None
            manifest.check(earlier, str(self.path))
            return
        if any(self.path.glob("*.parquet")):
            raise StorageError(f"{self.path}: holds Parquet files of another origin; name an empty directory")
        settle(file, lambda path: path.write_text(manifest.model_dump_json(indent=1) + "\n"))

    def marks(self, part: int) -> Marks | None:
        path = self._part(part)
        if not path.exists():
            return None
        try:
            metadata = parquet.read_schema(path).metadata or {}
        except pa.ArrowException:
            raise StorageError(f"{path}: is damaged; remove it, and run again") from None
        return Marks(metadata.get(_CUSTOMERS, b"").decode(), metadata.get(_IDS, b"").decode())

    def write(self, part: int, rows: pa.Table, marks: Marks) -> None:
        table = rows.replace_schema_metadata({_IDS: marks.ids, _CUSTOMERS: marks.customers})
        settle(self._part(part), lambda unfinished: parquet.write_table(table, unfinished, compression="zstd"))

    def _part(self, part: int) -> Path:
        return self.path / f"part-{part:06}.parquet"
