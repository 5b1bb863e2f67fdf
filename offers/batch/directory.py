"""A scored table as a directory of Parquet parts."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet
from pydantic import ValidationError

from offers.batch.parts import WHOLE, Manifest, Marks, Shard
from offers.batch.scored_table import check_columns, unfinished
from offers.errors import DataError, StorageError
from offers.files import os_errors, settle

MANIFEST = "manifest.json"
_PARTS = "part-*.parquet"
_IDS, _CUSTOMERS = b"offers.ids", b"offers.customers"


@dataclass(frozen=True)
class Directory:
    """Parts as files. Each gets its name once it is on the disk, and one process at a time writes those of a shard."""

    path: Path
    shard: Shard = WHOLE

    @contextmanager
    def hold(self, manifest: Manifest) -> Iterator[None]:
        with os_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / f".lock-{self.shard}").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise StorageError(f"{self.path}: another process is writing here; wait for it") from None
                with (self.path / ".lock").open("w") as beginning:
                    # Shards may begin at once, and the first of them writes the manifest.
                    fcntl.flock(beginning, fcntl.LOCK_EX)
                    self._begin(manifest)
                yield

    def _begin(self, manifest: Manifest) -> None:
        file = self.path / MANIFEST
        if file.exists():
            manifest.check(_manifest(file), str(self.path))
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

    def finish(self, schema: pa.Schema) -> None:
        file = self.path / _complete(self.shard)
        if not file.exists():
            count = sum(self.shard.has(_number(path)) for path in self.path.glob(_PARTS))
            settle(file, lambda path: path.write_text(str(count)))

    def _part(self, part: int) -> Path:
        return self.path / f"part-{part:06}.parquet"


def scored_files(directory: Path, columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """Read a scored table a part at a time; yields each part's path for messages, and its rows."""
    with os_errors(directory):
        paths = sorted(directory.glob(_PARTS))
        counts = _counts(directory)
    if not paths:
        raise DataError(f"{directory}: expected the parts that 'offers score' writes, got none")
    # Tables of earlier versions do not tell the number of their parts.
    count = sum(map(int, counts)) if all(map(str.isdecimal, counts)) else 0
    if absent := set(range(1, max(count, _number(paths[-1])) + 1)) - set(map(_number, paths)):
        raise DataError(
            f"{directory}: expected part {min(absent)} of a complete table, found none; give the same 'offers score'"
            " again, which writes it"
        )
    for path in paths:
        try:
            check_columns(parquet.read_schema(path).names, columns, str(path))
            table = parquet.read_table(path, columns=columns)
        except (pa.ArrowException, KeyError, ValueError):
            raise DataError(f"{path}: expected a part that 'offers score' wrote, but it can't be read") from None
        yield str(path), table


def scored_customers(directory: Path) -> int:
    """Count the customers of a scored table, those without an offer included, by the marks of its parts."""
    with os_errors(directory):
        paths = sorted(directory.glob(_PARTS))
    marks = (Directory(directory).marks(_number(path)) for path in paths)
    return sum(int(mark.customers) for mark in marks if mark is not None)


def _manifest(file: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except ValidationError:
        raise StorageError(f"{file}: is none of ours, or damaged; name an empty directory") from None


def _counts(directory: Path) -> list[str]:
    """What the shards of a table noted of their number of parts; raises `DataError` where one has not ended."""
    if not (directory / MANIFEST).exists():
        return []
    shards = _manifest(directory / MANIFEST).shards
    notes = [directory / _complete(Shard(number, shards)) for number in range(1, shards + 1)]
    if not all(note.exists() for note in notes):
        raise unfinished(str(directory))
    return [note.read_text("utf-8") for note in notes]


def _number(part: Path) -> int:
    return int(part.stem.removeprefix("part-"))


def _complete(shard: Shard) -> str:
    return f"complete-{shard}"
