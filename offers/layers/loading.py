"""A load through all layers: from a source to bronze, silver and gold, and its line in the table of loads.

A process that is killed on the way leaves whole commits. The same load, begun again, adds what is missing and no row
twice.
"""

from collections.abc import Iterator
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.contract.sections import CsvFormat
from offers.data import cells
from offers.data.sources import Ingested
from offers.errors import DataError
from offers.layers import bronze, gold, silver
from offers.layers.bronze import Load
from offers.layers.gold import Gold
from offers.layers.places import LOAD, LOADED_AT, LOADS, REJECTS, SILVER
from offers.layers.profile import LoadReport, anomalies, profiles, span
from offers.layers.silver import Change, Sorted
from offers.store.delta import DeltaTables, dataset_of
from offers.wording import Say, counted

_REPORT = "report"


def load(
    ingested: Ingested, contract: Contract, tables: DeltaTables, now: datetime, left_out: int = 0, say: Say = print
) -> tuple[LoadReport, bool]:
    """Bring rows into all layers.

    Parameters
    ----------
    ingested : the rows as they came
    now : the moment of the load, in UTC; outcomes that are mature by then go into gold
    left_out : rows of the source that the caller left out

    Returns
    -------
    LoadReport
        what came, what was refused, what changed
    bool
        whether the same rows had been loaded before; then nothing is added

    Raises
    ------
    StorageError
        the store refuses; what was written stays, and the same load again adds the rest
    """
    brought, again = bronze.append(ingested, contract, tables, now)
    earlier = list(reports(tables))
    if again and (known := next((one for one in earlier if one.load == brought.id), None)):
        return known, True
    say(f"bronze: {brought.rows} rows of load {brought.id}")
    parts = silver.sort(tables, brought, contract)
    tables.append(REJECTS, parts.rejects, brought.id, 1)
    change = silver.put(tables, brought, parts.rows, contract)
    say(f"silver: {change.new} new, {change.corrected} corrected; {counted(parts.rejects.num_rows, 'reject')}")
    made = gold.build(tables, contract, now)
    say(f"gold: version {made.version}, {made.rows} rows" if made.version is not None else f"no gold: {made.note}")
    report = _report(brought, parts, change, made, contract)
    report = report.model_copy(update={"left_out": left_out, "anomalies": tuple(anomalies(report, earlier))})
    line = pa.table(
        {
            LOAD: [report.load],
            LOADED_AT: pa.array([report.at], pa.timestamp("us", tz="UTC")),
            _REPORT: [report.model_dump_json()],
        }
    )
    tables.append(LOADS, line, report.load, 1)
    return report, False


def _report(brought: Load, parts: Sorted, change: Change, made: Gold, contract: Contract) -> LoadReport:
    first, last = span(parts.rows, contract)
    return LoadReport(
        load=brought.id,
        at=brought.at,
        source=brought.source,
        fingerprint=brought.fingerprint,
        rows=brought.rows,
        rejected=parts.rejects.num_rows,
        repeated=parts.repeated,
        change=change,
        first=first,
        last=last,
        columns=profiles(parts.rows, contract),
        gold=made.version,
        gold_rows=made.rows,
        note=made.note,
    )


def reports(tables: DeltaTables) -> Iterator[LoadReport]:
    """Yield the reports of all loads, the oldest first."""
    if not tables.holds(LOADS):
        return
    table = tables.open(LOADS)
    with tables.errors(LOADS):
        lines = dataset_of(table).to_table().sort_by(LOADED_AT)
    for line in lines[_REPORT].to_pylist():
        yield LoadReport.model_validate_json(line)


def since(ingested: Ingested, contract: Contract, tables: DeltaTables, moment: str) -> tuple[Ingested, int]:
    """Keep the rows from a moment on; returns them, and how many were left out.

    Parameters
    ----------
    moment : a date such as 2026-01-31, with or without a time of day; or `last`, the newest moment in silver

    Raises
    ------
    DataError
        the contract has no dates, or no key for `last`; the moment is no date; no row is left
    """
    if contract.time is None or contract[contract.time.column].type != "date":
        raise DataError(f"--since needs dates, and contract {contract.name} has no time column of type date")
    start = _newest(contract, tables) if moment == "last" else _parsed(moment)
    if start is None:
        return ingested, 0
    column = contract[contract.time.column]
    moments = cells.read(ingested.frame[column.name], column, contract.source.format).values
    # A cell that is no date is kept, so that it is listed among the rejects.
    keeps = (moments.isna() | (moments >= start)).to_numpy()
    if not keeps.any():
        raise DataError(f"{ingested.origin}: expected rows from {start} on, found none")
    frame = ingested.frame.loc[np.flatnonzero(keeps)].reset_index(drop=True)
    return Ingested(frame, ingested.origin, ingested.sha256), int((~keeps).sum())


def _newest(contract: Contract, tables: DeltaTables) -> pd.Timestamp | None:
    if not contract.source.key:
        raise DataError(
            "--since last takes the newest day again, so rows need a key: name its columns in 'source.key' of the"
            " contract, or name a date"
        )
    if not tables.holds(SILVER):
        return None
    assert contract.time is not None
    table = tables.open(SILVER)
    with tables.errors(SILVER):
        moments = dataset_of(table).to_table(columns=[contract.time.column])[contract.time.column].to_pandas()
    return None if moments.empty else pd.Timestamp(moments.max()).tz_localize(None)


def _parsed(moment: str) -> pd.Timestamp:
    column = Column(name="since", role=Role.TIME, type="date")
    value = cells.read(pd.Series([moment], dtype="string[pyarrow]"), column, CsvFormat()).values.iloc[0]
    if pd.isna(value):
        raise DataError(f"--since {moment!r}: expected {cells.DATE}, or last")
    return pd.Timestamp(value)
