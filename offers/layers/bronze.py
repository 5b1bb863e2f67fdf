"""Bronze: every cell as it came, in text, with the load that brought it. Rows are only ever appended."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import dataset as ds

from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.contract.values import word
from offers.data.sources import Ingested
from offers.layers.places import BRONZE, LOAD, LOADED_AT, ROW, TYPED
from offers.store.delta import DeltaTables, dataset_of


@dataclass(frozen=True)
class Load:
    """A load: the same rows of the same contract are the same load.

    Attributes
    ----------
    id : digest of the contract's name and of all cells
    at : when it was made, in UTC
    source : name of the source without secrets
    fingerprint : SHA-256 of the source's file, or of the cells where there is none
    """

    id: str
    at: datetime
    source: str
    fingerprint: str
    rows: int


def append(ingested: Ingested, contract: Contract, tables: DeltaTables, now: datetime) -> tuple[Load, bool]:
    """Append rows as they came, once; returns their load, and whether they are there since an earlier one."""
    text, typed = _text(ingested.frame, contract)
    digest = hashlib.sha256(contract.name.encode())
    for name in text.column_names:
        digest.update(f"\n{name}\n".encode())
        for chunk in text[name].chunks:
            for part in chunk.buffers():
                digest.update(b"" if part is None else part)
    name = digest.hexdigest()[:16]
    count = text.num_rows
    own = {
        LOAD: pa.array([name] * count),
        LOADED_AT: pa.array([now] * count, pa.timestamp("us", tz="UTC")),
        ROW: pa.array(range(1, count + 1), pa.int64()),
        TYPED: pa.array([typed] * count, pa.list_(pa.string())),
    }
    rows = pa.table(own | {column: text[column] for column in text.column_names})
    again = not tables.append(BRONZE, rows, name, 1, widen=[column.name for column in contract.columns])
    if again:
        first = pc.min(read(tables, name)[LOADED_AT]).as_py()
        now = first if first is not None else now
    return Load(name, now, ingested.origin, ingested.sha256 or digest.hexdigest(), count), again


def read(tables: DeltaTables, load: str) -> pa.Table:
    """Read the rows of a load, in their order."""
    table = tables.open(BRONZE)
    with tables.errors(BRONZE):
        rows = dataset_of(table).to_table(filter=ds.field(LOAD) == load)
    return rows.sort_by(ROW)


def cells(rows: pa.Table, contract: Contract) -> pd.DataFrame:
    """Restore the cells of a load as its source had them: text, or values where the source had types."""
    typed = set(rows[TYPED][0].as_py()) if rows.num_rows else set()
    return pd.DataFrame(
        {
            column.name: _restored(rows[column.name], column, column.name in typed)
            if column.name in rows.column_names
            else pd.Series([None] * rows.num_rows, dtype="string[pyarrow]")
            for column in contract.columns
        }
    )


def _text(frame: pd.DataFrame, contract: Contract) -> tuple[pa.Table, list[str]]:
    """Write every cell as a CSV file would; returns the names of the columns whose cells had a type, too."""
    columns, typed = {}, []
    for column in contract.columns:
        values = frame[column.name].astype(object)
        objects = [None if absent else cell for cell, absent in zip(values, values.isna(), strict=True)]
        if not any(isinstance(cell, str) for cell in objects):
            typed.append(column.name)
        # In a column of texts with a few typed cells, such as an Excel sheet has, all are written as its texts are.
        decimal = contract.source.format.decimal if column.name not in typed and column.is_numeric else "."
        columns[column.name] = pa.array(
            [cell if cell is None or isinstance(cell, str) else word(cell).replace(".", decimal) for cell in objects],
            pa.string(),
        )
    return pa.table(columns), typed


def _restored(values: pa.ChunkedArray, column: Column, typed: bool) -> pd.Series:
    if typed and column.is_numeric:
        for kind, dtype in ((pa.int64(), pd.Int64Dtype()), (pa.float64(), None)):
            try:
                numbers = values.cast(kind)
            except pa.ArrowInvalid:
                continue
            return pd.Series(pd.array(numbers.to_pylist(), dtype)) if dtype else pd.Series(numbers.to_pandas())
    if typed and column.type == "date":
        moments = pd.to_datetime(values.to_pandas(), format="ISO8601", errors="coerce", utc=True)
        return pd.Series(moments)
    return pd.Series(values.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get))
