"""Upkeep of the log's tables: joins small files, removes old versions, and deletes old decisions by date."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from offers.decisions.records import DECISIONS, INTERACTIONS, OUTCOMES, QUARANTINE, SCHEMAS
from offers.errors import DataError
from offers.store.delta import DeltaTables

LEAST_DAYS, MOST_DAYS = 183, 3653
"""How long rows may be kept: half a year at least, ten years at most."""
VERSIONS_HOURS = 7 * 24
"""How long files of earlier versions stay for those who read them."""


@dataclass(frozen=True)
class Tidied:
    """The result for one table: its files before and after, and the number of deleted rows."""

    table: str
    files_before: int
    files_after: int
    deleted: int


def tidy(tables: DeltaTables, keep_days: int | None, now: datetime | None = None) -> list[Tidied]:
    """Join small files and remove old versions of every table; delete rows that are older than `keep_days`.

    Parameters
    ----------
    keep_days : from `LEAST_DAYS` to `MOST_DAYS`; None keeps every row

    Raises
    ------
    DataError
        `keep_days` is out of range
    """
    if keep_days is not None and not LEAST_DAYS <= keep_days <= MOST_DAYS:
        raise DataError(f"keep {keep_days} days: expected {LEAST_DAYS} to {MOST_DAYS}")
    old = None
    if keep_days is not None:
        old = f"date < '{(now or datetime.now(UTC)).date() - timedelta(days=keep_days)}'"
    return [_tidied(tables, name, old) for name in SCHEMAS if tables.holds(name)]


def _tidied(tables: DeltaTables, name: str, old: str | None) -> Tidied:
    deleted = 0
    with tables.errors(name):
        table = tables.open(name)
        before = len(table.file_uris())
        # Catalogues are not deleted, because remaining decisions refer to them.
        if old is not None and name in (DECISIONS, OUTCOMES, INTERACTIONS, QUARANTINE):
            deleted = int(table.delete(old)["num_deleted_rows"] or 0)
        table.optimize.compact()
        table.vacuum(retention_hours=VERSIONS_HOURS, dry_run=False)
        return Tidied(name, before, len(table.file_uris()), deleted)
