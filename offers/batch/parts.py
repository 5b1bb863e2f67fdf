"""A scored table that grows by parts. Each part is written whole or not at all, so a killed run can be continued."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from offers.batch.repeats import Repeats, hashes
from offers.batch.source import Source
from offers.errors import DataError, StorageError
from offers.record import Record

Tell = Callable[[int], None]
"""Called with the number of customers that are done."""


class Schema(Protocol):
    """Knows the ids in a batch, and the name of their column."""

    @property
    def key(self) -> str:
        """The column of ids."""
        ...

    def ids(self, batch: pa.RecordBatch, first_row: int) -> pa.Array:
        """Give the ids of a batch as text; raises `DataError` where one is missing."""
        ...


class BatchScorer(Protocol):
    """Turns batches of customers, or of a market's users, into rows of a scored table."""

    @property
    def schema(self) -> Schema:
        """Of the batches."""
        ...

    @property
    def table_schema(self) -> pa.Schema:
        """Of the rows that it makes."""
        ...

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> pa.Table:
        """Score a batch, whose first row has this number in messages."""
        ...


class Manifest(Record):
    """The inputs with which a scored table was begun; a run that continues it must have the same."""

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
    pairs: bool = False
    groups: bool = False
    shards: int = 1
    format: int = 1

    def check(self, earlier: "Manifest", where: str) -> None:
        """Raise `StorageError`, which names the difference, where the table was begun with other inputs."""
        for name, value in self.model_dump().items():
            if (before := getattr(earlier, name)) != value:
                raise StorageError(
                    f"{where}: was begun with {name} {before!r}, and this run has {value!r}: go on with the same, or"
                    " name an empty place"
                )


@dataclass(frozen=True)
class Shard:
    """One of `total` shares of a run: the parts `number`, `number + total`, `number + 2 * total` and so on."""

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        return f"{self.number}-of-{self.total}"

    def has(self, part: int) -> bool:
        return part % self.total == self.number % self.total


WHOLE = Shard()


@dataclass(frozen=True)
class Marks:
    """The customers of a part: their number, and the SHA-256 of their ids' hashes."""

    customers: str
    ids: str


class Parts(Protocol):
    """The storage of a scored table. Parts are numbered from 1; every method may raise `StorageError`."""

    @property
    def shard(self) -> Shard:
        """The share of the parts that is written here."""
        ...

    def hold(self, manifest: Manifest) -> AbstractContextManager[None]:
        """Hold the shard while a run writes to it; refuses a table that was begun with another manifest."""
        ...

    def marks(self, part: int) -> Marks | None:
        """The customers of a part; None where the part is not there."""
        ...

    def write(self, part: int, rows: pa.Table, marks: Marks) -> None:
        """Write a part that is not there yet."""
        ...

    def finish(self, schema: pa.Schema) -> None:
        """Record that all parts of the shard, rows of `schema`, are there; does nothing if that is recorded already."""
        ...


@dataclass(frozen=True)
class Summary:
    """The result of a run: the number of its shard's customers, and how many of them an earlier run had scored."""

    customers: int
    earlier: int
    parts: int


def score(source: Source, scorer: BatchScorer, parts: Parts, manifest: Manifest, tell: Tell) -> Summary:
    """Score all customers of a shard, or those that an earlier run has not scored yet.

    Every shard reads all customers, so that each of them finds a customer who occurs twice.

    Raises
    ------
    DataError
        a value breaks the contract, a customer occurs twice, or the customers are not those of the earlier run
    StorageError
        the table was begun with other inputs, is in use, or can't be written; parts written before stay
    """
    repeats, rows, part, shard = Repeats(), 0, 0, parts.shard
    customers = earlier = own_parts = 0
    with parts.hold(manifest):
        for part, batch in enumerate(source.batches(manifest.rows), 1):
            marks = _marks(batch, scorer.schema, repeats, rows)
            if shard.has(part):
                if (before := parts.marks(part)) is None:
                    parts.write(part, scorer(batch, rows + 1), marks)
                elif before == marks:
                    earlier += len(batch)
                else:
                    raise other_customers(part, source.origin)
                customers, own_parts = customers + len(batch), own_parts + 1
            rows += len(batch)
            tell(rows)
        if not rows:
            raise DataError(f"{source.origin}: expected customers, got none")
        following = next(later for later in range(part + 1, part + 1 + shard.total) if shard.has(later))
        if parts.marks(following) is not None:
            raise other_customers(following, source.origin)
        parts.finish(scorer.table_schema)
    return Summary(customers, earlier, own_parts)


def _marks(batch: pa.RecordBatch, schema: Schema, repeats: Repeats, before: int) -> Marks:
    ids = schema.ids(batch, before + 1)
    bits = hashes(ids)
    again = repeats.add(bits)
    if again is not None:
        raise DataError(
            f"column '{schema.key}', row {before + again + 1}: expected each customer once, got {ids[again].as_py()!r}"
            " again; leave repeats out"
        )
    return marks_of(bits)


def marks_of(bits: np.ndarray) -> Marks:
    """The marks of a part, by the hashes of its customers' ids in their order."""
    return Marks(str(len(bits)), hashlib.sha256(np.ascontiguousarray(bits).tobytes()).hexdigest())


def other_customers(part: int, origin: str) -> DataError:
    """Build the error for a part that an earlier run wrote from other customers."""
    return DataError(
        f"{origin}: expected the customers of part {part} in its place, got others; give the same rows in the same"
        " order (ORDER BY in a query), or name an empty place"
    )
