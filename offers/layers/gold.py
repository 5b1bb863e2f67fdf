"""Gold: the rows to learn from, as of a moment. Each version of the table stays readable under its number."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from pyarrow import compute as pc

from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.data.sources import Ingested
from offers.data.table_file import exact_frame
from offers.data.validation import validate
from offers.errors import DataError, SourceError, StorageError
from offers.layers.places import GOLD, LOADED_AT, POSITION, ROW, SILVER
from offers.store.delta import DeltaTables, dataset_of

_SILVER, _FINGERPRINT, _AS_OF = "offers.silver", "offers.fingerprint", "offers.as_of"
_DROPPED = (Role.IDENTIFIER, Role.LEAKAGE)


@dataclass(frozen=True)
class Gold:
    """A version of gold, and why there is no newer one, if so."""

    version: int | None
    rows: int
    note: str = ""


def build(tables: DeltaTables, contract: Contract, now: datetime) -> Gold:
    """Make gold from silver: rows whose outcome is known and mature at `now`, in time order.

    A version is written only where the rows differ from those of the newest one, and keep the contract as a whole.
    """
    while True:
        silver = tables.open(SILVER)
        rows = _rows(dataset_of(silver).to_table(), contract, now)
        fingerprint = _fingerprint(rows)
        newest = _newest(tables)
        if newest is not None and newest[1] == fingerprint:
            return Gold(newest[0], rows.num_rows)
        if note := "; ".join(_faults(rows, contract)):
            return Gold(newest[0] if newest else None, rows.num_rows, note)
        with suppress(CommitFailedError):
            _write(tables, rows, {_SILVER: str(silver.version()), _FINGERPRINT: fingerprint, _AS_OF: now.isoformat()})
        # A load that ended meanwhile may have built gold from more rows than we saw; then ours must not be the last.
        if tables.open(SILVER).version() == silver.version():
            version = _newest(tables)
            assert version is not None
            return Gold(version[0], rows.num_rows)


def read(contract: Contract, tables: DeltaTables, where: str, version: int | None = None) -> Ingested:
    """Read gold as the rows of a contract; what is not known when a decision is made is empty.

    Raises
    ------
    SourceError
        there is no gold, or not of this version
    """
    if not tables.holds(GOLD):
        raise SourceError(
            f"layers {where}: expected gold of contract {contract.name}, found none; load rows by"
            f" 'offers data ingest --contract {contract.name}'"
        )
    newest = tables.open(GOLD).version()
    if version is not None and not 0 <= version <= newest:
        raise SourceError(f"layers {where}: expected a version of gold from 0 to {newest}, got {version}")
    chosen = newest if version is None else version
    table = tables.open(GOLD, chosen)
    with tables.errors(GOLD):
        rows = dataset_of(table).to_table().sort_by(POSITION)
    frame = exact_frame(rows.drop_columns([POSITION]))
    absent = [column.name for column in contract.columns if column.name not in frame]
    if unknown := [name for name in absent if contract[name].is_input and not contract[name].may_be_missing]:
        raise DataError(f"layers {where}, gold version {chosen}: expected column {unknown[0]!r} of the contract")
    for name in absent:
        frame[name] = pd.Series(None, frame.index, "string[pyarrow]")
    return Ingested(frame[[c.name for c in contract.columns]], f"{where}@{chosen}", _fingerprint(rows))


def versions(tables: DeltaTables) -> Iterator[tuple[int, datetime, str]]:
    """Yield number, moment and version of silver of each version of gold, the newest first."""
    table = tables.open(GOLD)
    with tables.errors(GOLD):
        for entry in table.history():
            if _FINGERPRINT in entry:
                yield entry["version"], datetime.fromisoformat(entry[_AS_OF]), entry[_SILVER]


def _newest(tables: DeltaTables) -> tuple[int, str] | None:
    """Number and fingerprint of the newest version."""
    if not tables.holds(GOLD):
        return None
    table = tables.open(GOLD)
    with tables.errors(GOLD):
        entry = next(entry for entry in table.history() if _FINGERPRINT in entry)
    return int(entry["version"]), str(entry[_FINGERPRINT])


def _write(tables: DeltaTables, rows: pa.Table, note: dict[str, str]) -> None:
    try:
        write_deltalake(
            tables.uri(GOLD),
            rows,
            mode="overwrite",
            schema_mode="overwrite",
            # A version must be there for as long as a model that learned from it.
            configuration={"delta.logRetentionDuration": "interval 36500 days"},
            commit_properties=CommitProperties(custom_metadata=note),
            storage_options=tables.options,
        )
    except CommitFailedError:
        raise
    except (DeltaError, OSError) as error:
        raise StorageError(f"{tables.uri(GOLD)}: the table can't be written ({error})") from None


def _rows(silver: pa.Table, contract: Contract, now: datetime) -> pa.Table:
    names = [c.name for c in contract.columns if c.role not in _DROPPED and c.name in silver.column_names]
    order, known = [(LOADED_AT, "ascending"), (ROW, "ascending")], pc.is_valid(silver[contract.target.column])
    if contract.time is not None and contract[contract.time.column].type == "date":
        order.insert(0, (contract.time.column, "ascending"))
        mature = pa.scalar(now - timedelta(days=contract.target.matures_after_days), pa.timestamp("us", "UTC"))
        known = pc.and_(known, pc.less_equal(silver[contract.time.column], mature))
    rows = silver.filter(known).sort_by(order).select(names)
    return rows.append_column(POSITION, pa.array(np.arange(rows.num_rows))).combine_chunks()


def _faults(rows: pa.Table, contract: Contract) -> Iterator[str]:
    """Say why rows that keep the contract one by one do not keep it together."""
    if not rows.num_rows:
        yield "no row has an outcome yet"
        return
    frame = exact_frame(rows.drop_columns([POSITION]))
    for column in contract.columns:
        if column.name not in frame:
            frame[column.name] = pd.Series(None, frame.index, "string[pyarrow]")
    yield from map(str, validate(frame, contract).violations)


def _fingerprint(rows: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()
