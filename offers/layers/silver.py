"""Silver: the rows of a load that keep the contract, with types, each once; the others go to the table of rejects."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from pyarrow import compute as pc

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.data.validation import Violation, read_rows
from offers.errors import StorageError
from offers.layers import bronze
from offers.layers.bronze import Load
from offers.layers.places import CELLS, DIGEST, LOAD, LOADED_AT, REASONS, ROW, SILVER
from offers.record import Record
from offers.store.delta import DeltaTables, dataset_of

_TRIES = 8
_BEFORE, _LOAD_NOTE, _CHANGE_NOTE = "_before", "offers.load", "offers.change"
_KINDS = {"integer": pa.int64(), "boolean": pa.bool_(), "number": pa.float64()}


@dataclass(frozen=True)
class Sorted:
    """The rows of a load, sorted.

    Attributes
    ----------
    rows : those that keep the contract, with types, in their order
    rejects : those that break it, with the rules
    repeated : rows whose key comes again below, in the same load; the last one counts
    """

    rows: pa.Table
    rejects: pa.Table
    repeated: int


def sort(tables: DeltaTables, load: Load, contract: Contract) -> Sorted:
    """Read a load from bronze, and tell the rows that keep the contract from those that do not.

    Where the contract has a key, an outcome may be missing: a later row with the same key can bring it.
    """
    came = bronze.read(tables, load.id)
    cells = bronze.cells(came, contract)
    frame, violations = read_rows(cells, contract)
    reasons = _reasons(violations, frame, contract)
    wrong = np.fromiter(reasons, np.int64, len(reasons))
    keeps = np.ones(len(frame), bool)
    keeps[wrong] = False
    last = _last_of_key(frame, contract) | ~keeps
    own = {
        LOAD: came[LOAD],
        LOADED_AT: pa.array([load.at] * len(frame), pa.timestamp("us", tz="UTC")),
        ROW: came[ROW],
    }
    typed = {column.name: _array(frame[column.name], column) for column in contract.columns}
    digests = pa.array(_digests(came, [column.name for column in contract.columns]))
    rows = pa.table(own | {DIGEST: digests} | typed).filter(pa.array(keeps & last))
    rejects = came.select([LOAD, LOADED_AT, ROW]).take(pa.array(wrong))
    texts = came.select([c.name for c in contract.columns if c.name in came.column_names]).take(pa.array(wrong))
    rejects = rejects.append_column(REASONS, pa.array(["; ".join(reasons[row]) for row in wrong], pa.string()))
    cells_in_json = pa.array([orjson.dumps(row).decode() for row in texts.to_pylist()], pa.string())
    return Sorted(rows, rejects.append_column(CELLS, cells_in_json), int((keeps & ~last).sum()))


class Change(Record):
    """What a load changed in silver, in rows.

    Attributes
    ----------
    new, corrected, unchanged : rows with an unknown key; with a known key and other cells; and with the same cells
    late : new rows from before the newest moment that silver held, where the contract has dates
    waiting : rows whose outcome is not known yet
    """

    new: int
    corrected: int
    unchanged: int
    late: int
    waiting: int


def put(tables: DeltaTables, load: Load, rows: pa.Table, contract: Contract) -> Change:
    """Add a load's rows to silver, once; where the contract has a key, a known row is corrected in its place.

    Raises
    ------
    StorageError
        the store refuses, or silver holds a column in another type than the contract has now
    """
    if not tables.holds(SILVER):
        tables.append(SILVER, rows.slice(0, 0), "offers-layers", 1)
    for _ in range(_TRIES):
        if change := _recorded(tables, load):
            return change
        table = tables.open(SILVER)
        _refuse_other_types(table, rows.schema)
        change, fresh = _compared(tables, table, rows, contract)
        note = {_LOAD_NOTE: load.id, _CHANGE_NOTE: change.model_dump_json()}
        if not fresh.num_rows:
            return change
        if not contract.source.key:
            tables.append(SILVER, fresh, load.id, 1, note=note, widen=[column.name for column in contract.columns])
        elif _merged(tables, table, load, fresh, contract.source.key, note):
            return change
    raise StorageError(f"{tables.uri(SILVER)}: other loads are written all the time; try again when they have ended")


def _recorded(tables: DeltaTables, load: Load) -> Change | None:
    """What the load changed, where it is in silver already."""
    table = tables.open(SILVER)
    with tables.errors(SILVER):
        notes = (entry for entry in table.history() if entry.get(_LOAD_NOTE) == load.id)
    return next((Change.model_validate_json(note[_CHANGE_NOTE]) for note in notes), None)


def _merged(
    tables: DeltaTables, table: DeltaTable, load: Load, rows: pa.Table, key: Sequence[str], note: dict[str, str]
) -> bool:
    """Insert and correct rows in one commit; returns False if another load was faster."""
    same = " AND ".join(f'there."{name}" = come."{name}"' for name in key)
    # A corrected row keeps its place: only what it says, and which load said so, changes.
    values = {f'"{name}"': f'come."{name}"' for name in rows.column_names if name not in (ROW, LOADED_AT)}
    # Delta lets two merges pass that insert the same key at once, so ours is for the version that was read, or fails.
    once = CommitProperties(custom_metadata=note, max_commit_retries=0, app_transactions=[Transaction(load.id, 1)])
    with tables.errors(SILVER):
        try:
            merger = table.merge(
                rows, same, source_alias="come", target_alias="there", merge_schema=True, commit_properties=once
            )
            merger.when_matched_update(updates=values).when_not_matched_insert_all().execute()
        except CommitFailedError:
            return False
    return True


def _compared(tables: DeltaTables, table: DeltaTable, rows: pa.Table, contract: Contract) -> tuple[Change, pa.Table]:
    """Hold rows against those of silver; returns what would change, and the rows that change something."""
    key, moment = list(contract.source.key), _date_column(contract)
    names = [*key, DIGEST, *([moment] if moment else [])]
    with tables.errors(SILVER):
        there = dataset_of(table).to_table(columns=list(dict.fromkeys(names)))
    if key:
        before = there.select([*key, DIGEST]).rename_columns([*key, _BEFORE])
        joint = rows.select([*key, DIGEST, ROW]).join(before, key, join_type="left outer").sort_by(ROW)
        is_new = pc.is_null(joint[_BEFORE])
        is_same = pc.fill_null(pc.equal(joint[_BEFORE], joint[DIGEST]), False)
    else:
        is_new = pa.chunked_array([pa.array(np.ones(rows.num_rows, bool))])
        is_same = pc.invert(is_new)
    newest = pc.max(there[moment]) if moment else pa.scalar(None)
    new, same = _count(is_new), _count(is_same)
    change = Change(
        new=new,
        corrected=rows.num_rows - new - same,
        unchanged=same,
        late=_count(pc.and_(is_new, pc.less(rows[moment], newest))) if newest.is_valid else 0,
        waiting=rows[contract.target.column].null_count,
    )
    return change, rows.filter(pc.invert(is_same))


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _date_column(contract: Contract) -> str:
    """The time column, where it holds dates."""
    name = contract.time.column if contract.time else ""
    return name if name and contract[name].type == "date" else ""


def _refuse_other_types(table: DeltaTable, schema: pa.Schema) -> None:
    there = {field.name: field.type for field in dataset_of(table).schema}
    for field in schema:
        held = there.get(field.name, field.type)
        if held != field.type:
            raise StorageError(
                f"{table.table_uri}: holds {field.name!r} as {held}, and the contract now says {field.type};"
                " name another place for the layers, and load the sources anew"
            )


def _reasons(violations: Sequence[Violation], frame: pd.DataFrame, contract: Contract) -> dict[int, list[str]]:
    """List the broken rules of each row that breaks one, by its place."""
    target, reasons = contract.target.column, dict[int, list[str]]()
    waits = frame[target].isna().to_numpy() & bool(contract.source.key)
    for violation in violations:
        for row in violation.rows:
            if not (violation.column == target and waits[row]):
                reasons.setdefault(int(row), []).append(f"{violation.column}: expected {violation.expected}")
    return dict(sorted(reasons.items()))


def _last_of_key(frame: pd.DataFrame, contract: Contract) -> np.ndarray:
    key = list(contract.source.key)
    return ~frame.duplicated(key, keep="last").to_numpy() if key else np.ones(len(frame), bool)


def _digests(came: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Hash the cells of each row; equal rows have equal digests."""
    hashes = [
        pd.util.hash_array(came[name].to_pandas().to_numpy(object)) for name in names if name in came.column_names
    ]
    # The multiplier is that of Knuth's generator MMIX: it makes the order of the columns count.
    return reduce(lambda digest, part: digest * np.uint64(6364136223846793005) + part, hashes).view(np.int64)


def _array(values: pd.Series, column: Column) -> pa.Array:
    if column.type == "date":
        return pa.array(values, from_pandas=True).cast(pa.timestamp("us"), safe=False).cast(pa.timestamp("us", "UTC"))
    if column.type in ("category", "text") or column.role == Role.TARGET:
        return pa.array(values.astype(object), pa.string(), from_pandas=True)
    # A cell that breaks the contract may not fit its type; its row is a reject, whose text is kept.
    array = pa.array(values, from_pandas=True)
    return (
        pc.round(array).cast(_KINDS[column.type], safe=False) if column.type != "number" else array.cast(pa.float64())
    )
