"""Shipping: appends sealed segments to the log's tables, each exactly once, and then removes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from offers.decisions.records import ADDED, DECISIONS, POLICIES, collected
from offers.decisions.segment import Sealed, lines, sealed
from offers.errors import OffersError
from offers.files import os_errors
from offers.store.delta import DeltaTables


@dataclass(frozen=True)
class Shipped:
    """The result for one segment: rows by table, or the reason why it stays in the spool."""

    segment: Sealed
    rows: dict[str, int]
    refusal: str = ""


def ship(spool: Path, tables: DeltaTables) -> Iterator[Shipped]:
    """Append each sealed segment and remove it; a refused segment stays, and shipping continues with the next.

    If the process is killed, the call may be repeated: a segment is never appended twice.
    """
    for segment in sealed(spool):
        try:
            yield Shipped(segment, _appended(segment, tables))
        except OffersError as error:
            yield Shipped(segment, {}, str(error))


def _appended(segment: Sealed, tables: DeltaTables) -> dict[str, int]:
    with os_errors(segment.path):
        content = segment.path.read_bytes()
    counts = {}
    for name, rows in collected(lines(content), segment.writer, segment.number).tables().items():
        partition = () if name == POLICIES else ("date",)
        tables.append(name, rows, segment.writer, segment.number, partition, widen=ADDED if name == DECISIONS else ())
        counts[name] = rows.num_rows
    with os_errors(segment.path):
        segment.path.unlink()
    return counts
