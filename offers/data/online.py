"""The online rows of users: the inputs that training sees, kept by id, and moved by live events."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market
from offers.data.market_tables import opened
from offers.data.online_reading import DAY, OnlineRows, Reading
from offers.data.online_row import LIVE_VIEW, RowForm, UserRow
from offers.data.snapshot import KINDS, code_of, event_weights, snapshot, windows
from offers.errors import SourceError
from offers.model.encoder import Encoder
from offers.store.online import PATIENCE, OnlineStore, open_online_store

MOST_RECENT, MOST_IDS = 2000, 2000
"""Events of a user that count in windows, and live events whose ids are compared; the newest of each."""


class UserEvent(NamedTuple):
    """An event of a user: the caller's id of it, the user's id, its kind, its moment in microseconds of UTC, and the
    product that it is about.
    """

    id: str
    user: str
    kind: str
    at: int
    product: str


@dataclass(frozen=True, eq=False)
class OnlineUsers:
    """The rows of a market's users in an online store.

    A row is the encoder's: the columns of role customer, then the features by user, whose values are those of
    `offers.data.point_in_time` at the moment of reading. As time passes, values beyond their time to live become
    missing, recencies grow, and events leave their windows.
    """

    market: Market

    @property
    def encoder(self) -> Encoder:
        """The encoder that makes rows of numbers, in training and here."""
        return self._form.encoder

    @property
    def form(self) -> bytes:
        """A digest of what the contract says of users; rows with another one are not read."""
        return self._form.digest

    def open(self, where: str, patience: float = PATIENCE) -> OnlineStore:
        """Open the store that has the rows; each call of it may take `patience` seconds.

        Raises
        ------
        StorageError
            there is no such store, or it can't be opened
        """
        return open_online_store(where, patience=patience)

    def load(
        self, directory: Path, store: OnlineStore, moment: np.datetime64 | None = None
    ) -> tuple[int, np.datetime64]:
        """Replace all rows by those of all users as of a moment; returns the number of users, and the moment.

        Parameters
        ----------
        moment : in UTC; by default the second after the newest interaction

        Raises
        ------
        SourceError
            a table is missing, can't be read, breaks the contract, or has no row at the moment
        StorageError
            the store can't be written
        """
        with opened(self.market, directory) as connection:
            if moment is None:
                moment = after_the_newest(connection, directory)
            count = 0

            def rows() -> Iterator[tuple[str, bytes]]:
                nonlocal count
                for table in snapshot(self.market, connection, moment):
                    count += len(table)
                    yield from self._form.packed(table, moment)

            store.load(rows())
        return count, moment

    def stream(
        self, connection: duckdb.DuckDBPyConnection, moment: np.datetime64
    ) -> Iterator[tuple[list[str], OnlineRows]]:
        """Yield ids and rows of all users as of a moment, in the order of the ids: what `read` gives after a load.

        Parameters
        ----------
        connection : a connection of `market_tables.opened`

        Raises
        ------
        SourceError
            the tables can't be joined
        """
        for table in snapshot(self.market, connection, moment):
            ids, contents = zip(*self._form.packed(table, moment), strict=True)
            yield list(ids), self._reading.known([self._form.row(content) for content in contents], moment)

    def read(self, store: OnlineStore, ids: Sequence[str], now: np.datetime64) -> OnlineRows:
        """Read the rows of users as of `now`; for a user without a row every value is missing.

        Raises
        ------
        StorageError
            the store can't be read
        """
        contents = store.get(ids)
        places = [place for place, content in enumerate(contents) if content and self._form.is_ours(content)]
        rows = [self._form.row(contents[place] or b"") for place in places]
        found = self._reading.known(rows, now)
        matrix = np.full((len(ids), len(self.encoder.names)), np.nan, np.float32)
        moments = np.full(len(ids), np.datetime64("NaT", "us"))
        viewed = np.full((len(ids), self._form.viewed), -1, np.int64)
        matrix[places], moments[places], viewed[places] = found.matrix, found.moments, found.viewed
        foreign = sum(content is not None for content in contents) - len(rows)
        return OnlineRows(matrix, moments, foreign, found.stale, viewed)

    def apply(self, store: OnlineStore, events: Sequence[UserEvent]) -> list[str]:
        """Let live events move the rows of their users, all of them or none; returns how each was treated.

        An event is `taken`, or left out: it is `twice` there, `covered` by the load, which was made after it, or of an
        `unknown_user`, who has no row of this contract. The order of events does not matter. Of a user the newest
        MOST_IDS ids are compared.

        Raises
        ------
        StorageError
            the store can't be used; nothing was moved
        """
        by_user = dict[str, list[int]]()
        for place, event in enumerate(events):
            by_user.setdefault(event.user, []).append(place)
        treatments = [""] * len(events)

        def change(contents: Sequence[bytes | None]) -> list[bytes | None]:
            rows = list[bytes | None]()
            for places, content in zip(by_user.values(), contents, strict=True):
                row, own = self._moved(content, [events[place] for place in places])
                rows.append(row)
                for place, treatment in zip(places, own, strict=True):
                    treatments[place] = treatment
            return rows

        store.update(list(by_user), change)
        return treatments

    @cached_property
    def _form(self) -> RowForm:
        return RowForm(self.market)

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self._form)

    @property
    def _kinds(self) -> dict[str, int]:
        return self._reading.kinds

    @cached_property
    def _windows(self) -> dict[int, int]:
        """Map the place of each kind that a window counts to the largest of its windows, in microseconds."""
        return {self._kinds[name]: round(days * DAY) for name, days in windows(self.market).items()}

    def _moved(self, content: bytes | None, events: Sequence[UserEvent]) -> tuple[bytes | None, list[str]]:
        """Move one user's row; returns None where nothing moves it, and how each event was treated."""
        if content is None or not self._form.is_ours(content):
            return None, ["unknown_user"] * len(events)
        row = self._form.row(content)
        ids, fresh, treatments = dict.fromkeys(row.ids.tolist()), list[UserEvent](), list[str]()
        for event in events:
            number = int.from_bytes(hashlib.blake2b(event.id.encode(), digest_size=8).digest(), "little")
            treatments.append("twice" if number in ids else "covered" if event.at < row.record["at"] else "taken")
            if treatments[-1] == "taken":
                fresh.append(event)
                ids[number] = None
        if not fresh:
            return None, treatments
        self._add(row.record, fresh)
        recent = np.sort([*row.recent, *(e.at * KINDS + self._kinds[e.kind] for e in fresh)]).astype(np.int64)
        newest = max(event.at for event in fresh)
        within = [newest - self._windows.get(number % KINDS, 0) <= number // KINDS for number in recent.tolist()]
        recent = recent[np.array(within, bool) & np.isin(recent % KINDS, list(self._windows))]
        ids_of = np.array([*ids][-MOST_IDS:], np.uint64)
        moved = UserRow(row.record, recent[-MOST_RECENT:], ids_of, row.loaded, self._viewed(row, fresh))
        return moved.packed(), treatments

    def _viewed(self, row: UserRow, events: Sequence[UserEvent]) -> NDArray[np.void]:
        """Add views to those after the load, and keep the newest."""
        views = [(event.at, code_of(event.product)) for event in events if event.kind == self.market.events[0].name]
        every = sorted([*row.fresh.tolist(), *views])
        return np.array(every[max(0, len(every) - self._form.viewed) :], LIVE_VIEW)

    def _add(self, record: np.void, events: Sequence[UserEvent]) -> None:
        """Add events to a record: to sums over all time, and to the moments of the newest."""
        form = self._form
        for feature in form.features:
            weights = event_weights(self.market, feature)
            counted = [event for event in events if event.kind in weights]
            if not counted:
                continue
            if feature in form.timed:
                place = form.timed.index(feature)
                record["newest"][place] = max(record["newest"][place], *(event.at for event in counted))
            if feature.aggregate != "recency":
                # What is within a window is counted on reading; here it must only no longer be missing.
                columns = form.places(feature)
                sums = np.nan_to_num(record["values"][columns]) + sum(weights[event.kind] for event in counted)
                record["values"][columns] = sums


def after_the_newest(connection: duckdb.DuckDBPyConnection, directory: Path) -> np.datetime64:
    """Find the second after the newest interaction; raises `SourceError` where there are none."""
    [(newest,)] = connection.execute("SELECT max(_at) FROM events").fetchall()
    if newest is None:
        raise SourceError(f"{directory}: there are no interactions that would say which moment is meant; use --as-of")
    return np.datetime64(newest, "s") + np.timedelta64(1, "s")
