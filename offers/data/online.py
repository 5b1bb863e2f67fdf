"""The online rows of users: the inputs that training saw, packed, with the contract's digest and the moment."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from offers.contract.column import Role
from offers.contract.market import Feature, Market
from offers.data.market_tables import opened
from offers.data.point_in_time import END, joined
from offers.errors import SourceError
from offers.model import encoder
from offers.model.encoder import Encoder
from offers.store.online import OnlineStore

SECONDS_PER_DAY = 86400

_NEVER = np.iinfo(np.int64).max
"""The moment stored for a value that stays valid for ever."""


@dataclass(frozen=True, eq=False)
class OnlineRows:
    """Rows of users as the models see them.

    Attributes
    ----------
    matrix : ndarray, shape (users, columns), float32; NaN where missing
    moments : ndarray of datetime64[us], shape (users,), at which the rows were made; NaT where there is no row
    foreign : number of rows of another contract, which count as absent
    stale : for each table or feature, the number of users whose values were beyond their time to live
    """

    matrix: NDArray[np.float32]
    moments: NDArray[np.datetime64]
    foreign: int
    stale: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class OnlineUsers:
    """The rows of a market's users in an online store.

    A row is the encoder's: the columns of role customer, then the features by user. Before it are stored the digest of
    the contract's sections on users, the moment, and the moments until which values are valid. As time passes, values
    beyond their time to live become missing, and recencies grow. A count in a window stays that of the row's moment.
    """

    market: Market

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that makes rows of numbers, in training and here."""
        columns = [column for column in self.market.user_columns if column.role == Role.CUSTOMER]
        inputs = [encoder.Feature(one.name, one.values, one.unknown == "missing") for one in columns]
        return Encoder((*inputs, *(encoder.Feature(name) for feature in self._features for name in feature.columns)))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything that determines a row's layout and meaning, cut to 8 bytes."""
        parts = [self.market.users, *self.market.user_columns, *self.market.events, *self._features]
        content = json.dumps([part.model_dump(mode="json") for part in parts])
        return hashlib.sha256(content.encode()).digest()[:8]

    def load(
        self, directory: Path, store: OnlineStore, moment: np.datetime64 | None = None
    ) -> tuple[int, np.datetime64]:
        """Store the rows of all users as of a moment; returns the number of users, and the moment.

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
                moment = _after_the_newest(connection, directory)
            at = f"TIMESTAMP '{str(moment.astype('datetime64[us]')).replace('T', ' ')}'"
            cells = f"_key AS _user, '' AS _product, {at} AS _at, 0 AS _position"
            users = f"SELECT DISTINCT {cells} FROM users WHERE _since <= {at}"
            count = 0

            def rows() -> Iterator[tuple[str, bytes]]:
                nonlocal count
                for table in joined(self.market, connection, users, ("user",)):
                    count += len(table)
                    yield from self._packed(table)

            store.put(rows())
        return count, moment

    def read(self, store: OnlineStore, ids: Sequence[str], now: np.datetime64) -> OnlineRows:
        """Read the rows of users as of `now`; for a user without a row every value is missing.

        Raises
        ------
        StorageError
            the store can't be read
        """
        records = np.zeros(len(ids), self._form)
        foreign = 0
        for place, value in enumerate(store.get(ids)):
            if value is not None and len(value) == self._form.itemsize and value.startswith(self.digest):
                records[place] = np.frombuffer(value, self._form)[0]
            else:
                foreign += value is not None
                records[place]["at"] = np.iinfo(np.int64).min
                records[place]["values"] = np.nan
        moments = records["at"].astype("datetime64[us]")
        matrix = records["values"].copy()
        second = now.astype("datetime64[us]")
        elapsed = (second - moments) / np.timedelta64(SECONDS_PER_DAY, "s")
        stale = {}
        for place, (name, columns) in enumerate(self._ends.items()):
            beyond = (records["until"][:, place] < second.astype(np.int64)) & ~np.isnat(moments)
            matrix[np.ix_(beyond, columns)] = np.nan
            stale[name] = int(beyond.sum())
        matrix[:, self._recencies] += elapsed[:, None]
        return OnlineRows(matrix, moments, foreign, stale)

    @cached_property
    def _features(self) -> list[Feature]:
        return [feature for feature in self.market.features if feature.by == "user"]

    @cached_property
    def _ends(self) -> dict[str, list[int]]:
        """List the table and the features with a time to live, each with the places of its columns in a row."""
        names = self.encoder.names
        inputs = len(names) - sum(len(feature.columns) for feature in self._features)
        ends = {} if self.market.users.time_to_live is None else {"users": list(range(inputs))}
        mortal = [feature for feature in self._features if feature.time_to_live is not None]
        return ends | {feature.name: [names.index(name) for name in feature.columns] for feature in mortal}

    @cached_property
    def _recencies(self) -> list[int]:
        recencies = [feature for feature in self._features if feature.aggregate == "recency"]
        return [self.encoder.names.index(name) for feature in recencies for name in feature.columns]

    @cached_property
    def _form(self) -> np.dtype[np.void]:
        ends, values = (len(self._ends),), (len(self.encoder.names),)
        return np.dtype([("digest", "V8"), ("at", "<i8"), ("until", "<i8", ends), ("values", "<f4", values)])

    def _packed(self, table: pa.Table) -> Iterator[tuple[str, bytes]]:
        records = np.zeros(len(table), self._form)
        records["digest"] = np.void(self.digest)
        records["at"] = _microseconds(table[self.market.interactions.time])
        for place, name in enumerate(self._ends):
            records["until"][:, place] = _microseconds(table[END + name])
        records["values"] = self.encoder.encode(table)
        size, content = self._form.itemsize, records.tobytes()
        for place, one in enumerate(table[self.market.users.key].to_pylist()):
            yield one, content[place * size : (place + 1) * size]


def _after_the_newest(connection: duckdb.DuckDBPyConnection, directory: Path) -> np.datetime64:
    newest = (connection.execute("SELECT max(_at) FROM events").fetchone() or (None,))[0]
    if newest is None:
        raise SourceError(f"{directory}: there are no interactions that would say which moment is meant; use --as-of")
    return np.datetime64(newest, "s") + np.timedelta64(1, "s")


def _microseconds(moments: pa.ChunkedArray) -> NDArray[np.int64]:
    counts = pc.cast(pc.cast(moments, pa.timestamp("us")), pa.int64())
    return np.asarray(pc.fill_null(counts, _NEVER).to_numpy(), np.int64)
