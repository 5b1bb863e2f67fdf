"""A scored table as a directory of Parquet parts: each is there whole or not at all, so a killed run can go on."""

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from pydantic import ValidationError

from offers.batch.customers import CustomerSchema
from offers.batch.repeats import Repeats, hashes
from offers.batch.scoring import Scorer
from offers.batch.source import Source
from offers.errors import DataError, StorageError
from offers.files import os_errors, sync
from offers.record import Record

MANIFEST = "manifest.json"
_IDS, _CUSTOMERS = b"offers.ids", b"offers.customers"

Tell = Callable[[int], None]
"""Called with the number of customers that are done."""


class Manifest(Record):
    """The arguments that a directory of parts was begun with. A run that resumes it must have the same."""

    contract: str
    bundle: str
    policy: str
    catalogue: str
    customers: str
    state: str
    key: str
    k: int
    withheld: bool
    rows: int
    format: int = 1


@dataclass(frozen=True)
class Summary:
    """What a run did: customers in all, and how many of them an earlier run had scored."""

    customers: int
    earlier: int
    parts: int


def manifest_of(source: Source, scorer: Scorer, k: int, withheld: bool, rows: int) -> Manifest:
    """The manifest of a run."""
    schema = scorer.schema
    return Manifest(
        contract=schema.contract.name,
        **asdict(scorer.versions),
        customers=source.origin,
        state=source.state,
        key=schema.key,
        k=k,
        withheld=withheld,
        rows=rows,
    )


def score(source: Source, scorer: Scorer, directory: Path, manifest: Manifest, tell: Tell) -> Summary:
    """Score all customers into `directory`, or what an earlier run has left of them.

    Raises
    ------
    DataError
        a value breaks the contract, a customer comes twice, or the customers are not those of the earlier run
    StorageError
        the directory holds something else, is in use, or can't be written; the parts that are there stay
    """
    repeats, customers, earlier, part = Repeats(), 0, 0, 0
    with os_errors(directory), _begun(directory, manifest):
        for part, batch in enumerate(source.batches(manifest.rows), 1):
            marks = _marks(batch, scorer.schema, repeats, customers)
            path = directory / f"part-{part:06}.parquet"
            if path.exists():
                _check_same(path, marks, source.origin)
                earlier += len(batch)
            else:
                _write(scorer(batch, customers + 1), path, marks)
            customers += len(batch)
            tell(customers)
        if not customers:
            raise DataError(f"{source.origin}: expected customers, got none")
        if (directory / f"part-{part + 1:06}.parquet").exists():
            raise _other_customers(directory / f"part-{part + 1:06}.parquet", source.origin)
    return Summary(customers, earlier, part)


def _marks(batch: pa.RecordBatch, schema: CustomerSchema, repeats: Repeats, before: int) -> dict[bytes, bytes]:
    ids = schema.ids(batch, before + 1)
    bits = hashes(ids)
    again = repeats.add(bits)
    if again is not None:
        raise DataError(
            f"column '{schema.key}', row {before + again + 1}: expected each customer once, got {ids[again].as_py()!r}"
            " again; leave repeats out"
        )
    digest = hashlib.sha256(np.ascontiguousarray(bits).tobytes()).hexdigest()
    return {_IDS: digest.encode(), _CUSTOMERS: str(len(batch)).encode()}


@contextmanager
def _begun(directory: Path, manifest: Manifest) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"{directory}: another process is writing here; wait for it") from None
        if (directory / MANIFEST).exists():
            _check_manifest(directory, manifest)
        else:
            if any(directory.glob("*.parquet")):
                raise StorageError(f"{directory}: holds Parquet files of another origin; name an empty directory")
            _settle(directory / MANIFEST, lambda path: path.write_text(manifest.model_dump_json(indent=1) + "\n"))
        yield


def _check_manifest(directory: Path, manifest: Manifest) -> None:
    try:
        earlier = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except ValidationError:
        raise StorageError(f"{directory / MANIFEST}: is none of ours, or damaged; name an empty directory") from None
    for name, value in manifest.model_dump().items():
        if (before := getattr(earlier, name)) != value:
            raise StorageError(
                f"{directory}: was begun with {name} {before!r}, and this run has {value!r}: go on with the same, or"
                " name an empty directory"
            )


def _check_same(path: Path, marks: dict[bytes, bytes], origin: str) -> None:
    try:
        metadata = parquet.read_schema(path).metadata
    except pa.ArrowException:
        raise StorageError(f"{path}: is damaged; remove it, and run again") from None
    if any(metadata.get(name) != value for name, value in marks.items()):
        raise _other_customers(path, origin)


def _other_customers(path: Path, origin: str) -> DataError:
    return DataError(
        f"{origin}: expected the customers of {path.name} in its place, got others; give the same rows in the same"
        " order (ORDER BY in a query), or name an empty directory"
    )


def _write(table: pa.Table, path: Path, marks: dict[bytes, bytes]) -> None:
    marked = table.replace_schema_metadata(marks)
    _settle(path, lambda unfinished: parquet.write_table(marked, unfinished, compression="zstd"))


def _settle(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name, and give it its own once it is on the disk."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write(unfinished)
        sync(unfinished)
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync(path.parent)
