"""Erasure: a customer's traces are removed from the log, and the rest can still be verified."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deltalake import CommitProperties, DeltaTable

from offers.decisions import history
from offers.decisions.records import DECISIONS, INTERACTIONS, OUTCOMES, QUARANTINE, digest_of, root_of
from offers.errors import DataError
from offers.store.delta import DeltaTables, dataset_of

ERASED = ("customer", "caller", "request_id", "as_of", "inputs", "answer", "asked", "salt")
"""The columns of a decision that tell of the customer, and the salt without which its digest tells nothing."""


@dataclass(frozen=True)
class Verified:
    """The result of verifying the whole log.

    Attributes
    ----------
    decisions, segments, erased : numbers of decisions, of segments, and of erased decisions
    faults : one sentence for each segment or decision that was changed after it was written
    """

    decisions: int
    segments: int
    erased: int
    faults: tuple[str, ...]


def erase(tables: DeltaTables, customer: str, reason: str) -> int:
    """Delete the log's data about a customer, and the older files that still hold it.

    Parameters
    ----------
    customer : pseudonym
    reason : kept in the table's own history, with the moment

    Returns
    -------
    int
        number of erased decisions; offers and outcomes stay, but can no longer be linked to the customer. Interactions
        of a market go

    Raises
    ------
    DataError
        the log has no decision about the customer
    """
    if len(customer) != 64 or not set(customer) <= set("0123456789abcdef"):
        raise DataError(f"customer {customer!r:.80}: expected a pseudonym of 64 hexadecimal digits")
    columns = ["decided_at", "decision_id", "customer"]
    ids = history.read(tables, columns=columns, where=history.of_customer(customer))["decision_id"].to_pylist()
    if not ids:
        raise DataError("the log has no decision about this customer, by this key: nothing was erased")
    metadata = CommitProperties(custom_metadata={"offers.erased": str(len(ids)), "offers.reason": reason})
    # The condition stays in the table's history, so it must not name the customer.
    theirs = f"decision_id IN ({', '.join(map(_quoted, ids))})"
    for name, fields in ((DECISIONS, ERASED), (OUTCOMES, ("why", "request_id"))):
        if tables.holds(name):
            with tables.errors(name):
                table = tables.open(name)
                present = {column.name for column in table.schema().fields}
                blanks = {column: "NULL" for column in fields if column in present}
                table.update(blanks, predicate=theirs, commit_properties=metadata)
                _forget(table)
    if tables.holds(INTERACTIONS):
        with tables.errors(INTERACTIONS):
            _clear(tables.open(INTERACTIONS), "customer", [customer], metadata)
    if tables.holds(QUARANTINE):
        with tables.errors(QUARANTINE):
            _clear(tables.open(QUARANTINE), "content", (customer, *ids), metadata)
    return len(ids)


def verify(tables: DeltaTables) -> Verified:
    """Check every decision against its digest, and every segment against its root."""
    rows = history.read(tables).to_pylist()
    rows.sort(key=lambda row: (row["writer"], row["segment"], row["place"]))
    faults, segments = list[str](), 0
    for (writer, number), group in itertools.groupby(rows, key=lambda row: (row["writer"], row["segment"])):
        segments += 1
        faults += _faults(f"{writer}-{number:08}", list(group))
    erased = sum(row["salt"] is None for row in rows)
    return Verified(len(rows), segments, erased, tuple(faults))


def _faults(segment: str, rows: list[dict[str, object]]) -> Iterator[str]:
    if [row["place"] for row in rows] != list(range(len(rows))):
        yield f"segment {segment}: expected places 0 to {len(rows) - 1}; decisions are missing or there twice"
    elif {row["root"] for row in rows} != {root_of(str(row["digest"]) for row in rows)}:
        yield f"segment {segment}: its digests are not those that were written"
    for row in rows:
        if row["salt"] is not None and digest_of(row) != row["digest"]:
            yield f"decision {row['decision_id']}: its content is not what was written"


def _clear(table: DeltaTable, column: str, traces: Sequence[str], metadata: CommitProperties) -> None:
    """Remove the rows whose column quotes the customer or a decision about them.

    What is removed stays in the table's history, so it is named by segment and place, and not by the customer.
    """
    pattern, places = re.compile("|".join(map(re.escape, traces))), dict[tuple[str, int], list[int]]()
    for row in dataset_of(table).to_table(columns=["writer", "segment", "place", column]).to_pylist():
        if pattern.search(row[column]):
            places.setdefault((row["writer"], row["segment"]), []).append(row["place"])
    for (writer, segment), found in places.items():
        where = f"writer = {_quoted(writer)} AND segment = {segment} AND place IN ({', '.join(map(str, found))})"
        table.delete(where, commit_properties=metadata)
    _forget(table)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _forget(table: DeltaTable) -> None:
    """Remove the files of earlier versions; files that a writer has not committed yet stay."""
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
