"""A scored table that grows by parts: each is there whole or not at all, so a killed run can go on."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from offers.batch.customers import CustomerSchema
from offers.batch.repeats import Repeats, hashes
from offers.batch.scoring import Scorer
from offers.batch.source import Source
from offers.errors import DataError, StorageError
from offers.record import Record

Tell = Callable[[int], None]
"""Called with the number of customers that are done."""


class Manifest(Record):
    """What a scored table was begun with; a run that goes on must be begun with the same."""

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
    format: int = 1

    def check(self, earlier: "Manifest", where: str) -> None:
        """Raise `StorageError` where a table was begun with something else; names it."""
        for name, value in self.model_dump().items():
            if (before := getattr(earlier, name)) != value:
                raise StorageError(
                    f"{where}: was begun with {name} {before!r}, and this run has {value!r}: go on with the same, or"
                    " name an empty place"
                )


@dataclass(frozen=True)
class Marks:
    """Which customers a part was made of: their number, and SHA-256 of their ids' hashes."""

    customers: str
    ids: str


class Parts(Protocol):
    """Where a scored table lies. Parts are numbered from 1; every method may raise `StorageError`."""

    def hold(self, manifest: Manifest) -> AbstractContextManager[None]:
        """Keep the place while a run writes to it; refuses one that was begun with another manifest."""
        ...

    def marks(self, part: int) -> Marks | None:
        """What a part was made of; None where it is not there."""
        ...

    def write(self, part: int, rows: pa.Table, marks: Marks) -> None:
        """Write a part that is not there."""
        ...


@dataclass(frozen=True)
class Summary:
    """What a run did: customers in all, and how many of them an earlier run had scored."""

    customers: int
    earlier: int
    parts: int


def manifest_of(source: Source, scorer: Scorer, k: int, rows: int, **asked: bool) -> Manifest:
    """The manifest of a run; `asked` says whether withheld offers, all pairs and groups are written."""
    schema = scorer.schema
    return Manifest(
        contract=schema.contract.name,
        **asdict(scorer.versions),
        customers=source.origin,
        state=source.state,
        key=schema.key,
        k=k,
        rows=rows,
        **asked,
    )


def score(source: Source, scorer: Scorer, parts: Parts, manifest: Manifest, tell: Tell) -> Summary:
    """Score all customers, or what an earlier run has left of them.

    Raises
    ------
    DataError
        a value breaks the contract, a customer comes twice, or the customers are not those of the earlier run
    StorageError
        the place holds something else, is in use, or can't be written; the parts that are there stay
    """
    repeats, customers, earlier, part = Repeats(), 0, 0, 0
    with parts.hold(manifest):
        for part, batch in enumerate(source.batches(manifest.rows), 1):
            marks, before = _marks(batch, scorer.schema, repeats, customers), parts.marks(part)
            if before is None:
                parts.write(part, scorer(batch, customers + 1), marks)
            elif before == marks:
                earlier += len(batch)
            else:
                raise _other_customers(part, source.origin)
            customers += len(batch)
            tell(customers)
        if not customers:
            raise DataError(f"{source.origin}: expected customers, got none")
        if parts.marks(part + 1) is not None:
            raise _other_customers(part + 1, source.origin)
    return Summary(customers, earlier, part)


def _marks(batch: pa.RecordBatch, schema: CustomerSchema, repeats: Repeats, before: int) -> Marks:
    ids = schema.ids(batch, before + 1)
    bits = hashes(ids)
    again = repeats.add(bits)
    if again is not None:
        raise DataError(
            f"column '{schema.key}', row {before + again + 1}: expected each customer once, got {ids[again].as_py()!r}"
            " again; leave repeats out"
        )
    return Marks(str(len(batch)), hashlib.sha256(np.ascontiguousarray(bits).tobytes()).hexdigest())


def _other_customers(part: int, origin: str) -> DataError:
    return DataError(
        f"{origin}: expected the customers of part {part} in its place, got others; give the same rows in the same"
        " order (ORDER BY in a query), or name an empty place"
    )
