"""Reads decisions file by file, and keeps what was made of each file, so that a later look reads only new files."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from math import ceil, log2

import pyarrow as pa
from pyarrow import dataset

from offers.decisions import columns as stored
from offers.decisions import history
from offers.decisions.records import DECISIONS, SCHEMAS
from offers.store.delta import DeltaTables, dataset_of

Make = Callable[[pa.Table], pa.Table]
READERS = 2
"""Files that are read at once."""
LOOKS = 8
"""Purposes whose files are kept, the ones that were asked for last."""


@dataclass(frozen=True)
class Pieces:
    """What was made of the files of a log's decisions, by purpose and file. A file that has left the log is forgotten.

    A file never changes: an erasure or a compaction writes others in its place.
    """

    _made: dict[Hashable, dict[str, pa.Table]] = field(default_factory=dict)

    def read(
        self,
        tables: DeltaTables,
        purpose: Hashable,
        columns: Sequence[str],
        make: Make,
        where: dataset.Expression,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> pa.Table:
        """Put together what `make` makes of each file that may hold decisions of a period.

        Parameters
        ----------
        purpose : names `columns`, `make` and `where`; what was made for it is used again
        columns : columns that `make` is handed, as `offers.decisions.columns` reads them
        make : handed some rows of a file at a time, returns a table of the same schema each time
        where : condition on the rows, which reads some of the columns
        since, until : choose files; rows of other moments are among those of the chosen files

        Raises
        ------
        SourceError
            there is no log
        StorageError
            the store can't be reached
        """
        decisions = dataset_of(tables.open(DECISIONS))
        own = self._made.pop(purpose, {})
        self._made[purpose] = own
        for former in list(self._made)[:-LOOKS]:
            self._made.pop(former, None)
        there = {piece.path for piece in decisions.get_fragments()}
        for path in own.keys() - there:
            del own[path]
        chosen = list(decisions.get_fragments(history.in_period(since, until)))
        if new := [piece for piece in chosen if piece.path not in own]:
            read = partial(_of_file, make, decisions.schema, columns, where)
            with tables.errors(DECISIONS), ThreadPoolExecutor(READERS) as readers:
                own |= zip([piece.path for piece in new], readers.map(read, new), strict=True)
            # What the files' other columns took would stay with the allocator.
            pa.default_memory_pool().release_unused()
        if not chosen:
            return make(stored.empty(decisions.schema, columns))
        return pa.concat_tables([own[piece.path] for piece in chosen]).unify_dictionaries()


class Everything:
    """All decisions of a log, read as a sample is."""

    def read(
        self, tables: DeltaTables, columns: Sequence[str], since: datetime | None, until: datetime
    ) -> tuple[pa.Table, float]:
        """Read a period's decisions in the order in which they were made; the share of customers is 1."""
        return history.read(tables, since, until, columns), 1.0


@dataclass(frozen=True)
class Sample:
    """A sample of a log: all decisions about some of the customers, so that decisions about one are not torn apart.

    Pseudonyms are hashes, so those that begin with small digits are customers at random.

    Attributes
    ----------
    most : decisions that are read at most, about; the share of customers is the largest power of a half within it
    """

    most: int
    pieces: Pieces = field(default_factory=Pieces)

    def read(
        self, tables: DeltaTables, columns: Sequence[str], since: datetime | None, until: datetime
    ) -> tuple[pa.Table, float]:
        """Read a period's decisions in the order in which they were made; returns them, and the share of customers.

        Raises
        ------
        SourceError
            there is no log
        StorageError
            the store can't be reached
        """
        share = self._share(tables, since, until)
        where = history.of_share(share)
        needed = [*columns, *({"customer"} - {*columns})]
        rows = self.pieces.read(tables, ("sample", share, *columns), needed, _plain, where, since, until)
        inside = rows.select(columns).filter(history.in_moments(since, until))
        return inside.sort_by([("decided_at", "ascending"), ("decision_id", "ascending")]), share

    def _share(self, tables: DeltaTables, since: datetime | None, until: datetime) -> float:
        """Choose the share by the numbers of rows that the table's own log tells of the period's files."""
        table = tables.open(DECISIONS)
        counts = dict(
            zip(*(table.get_add_actions()[name].to_pylist() for name in ("path", "num_records")), strict=True)
        )
        pieces = dataset_of(table).get_fragments(history.in_period(since, until))
        count = sum(counts[piece.path] or 0 for piece in pieces)
        return 0.5 ** max(0, ceil(log2(max(count, 1) / self.most)))


def _of_file(
    make: Make, schema: pa.Schema, columns: Sequence[str], where: dataset.Expression, piece: dataset.ParquetFileFragment
) -> pa.Table:
    made = [make(found) for rows in stored.read(piece, schema, columns) if len(found := rows.filter(where))]
    return pa.concat_tables(made).unify_dictionaries() if made else make(stored.empty(schema, columns))


def _plain(rows: pa.Table) -> pa.Table:
    return stored.plain(rows, SCHEMAS[DECISIONS])
