"""A user's row as the online store keeps it: a record of fixed length, recent events, ids of live events, and views."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from offers.contract.column import Role
from offers.contract.market import Feature, Market
from offers.data.snapshot import NEWEST, RECENT, SINCE, VIEWED, user_features
from offers.model import encoder
from offers.model.encoder import Encoder

NEVER = np.iinfo(np.int64).min
"""The moment of what has not happened; NumPy reads it as NaT."""

_LAYOUT = 3
"""Counts the layouts that rows have had; rows of another layout are rows of another contract."""


LIVE_VIEW = np.dtype([("at", "<i8"), ("code", "<u4")])
"""A view that came after the load: its moment, and its product as `offers.data.snapshot.code_of` numbers it."""


@dataclass(frozen=True, eq=False)
class UserRow:
    """One row.

    Attributes
    ----------
    record : numpy record, with the fields `at`, `since`, `newest`, `live`, `loaded`, `fresh` and `values`
    recent : ndarray of int64, events within a window, oldest first; `offers.data.snapshot.KINDS` says how
    ids : ndarray of uint64, hashes of the ids of live events, in the order of arrival
    loaded : ndarray of uint32, codes of the newest views before the load, oldest first
    fresh : ndarray of LIVE_VIEW, the newest views after the load, oldest first
    """

    record: np.void
    recent: NDArray[np.int64]
    ids: NDArray[np.uint64]
    loaded: NDArray[np.uint32]
    fresh: NDArray[np.void]

    def packed(self) -> bytes:
        self.record["live"], self.record["loaded"], self.record["fresh"] = (
            one.size for one in (self.ids, self.loaded, self.fresh)
        )
        return b"".join(part.tobytes() for part in (self.record, self.recent, self.ids, self.loaded, self.fresh))

    def viewed(self, now: int, number: int) -> NDArray[np.uint32]:
        """List the products of the newest views before a moment, oldest first, `number` at most."""
        fresh = self.fresh["code"][self.fresh["at"] < now]
        return np.concatenate([self.loaded, fresh])[-number:] if number else self.loaded[:0]


@dataclass(frozen=True, eq=False)
class RowForm:
    """The layout of a market's rows.

    A record begins with a digest of the contract's sections on users. `at` is the moment of the load, `since` the
    moment since when the user's columns hold, `newest` the moments of the newest events of the features that need them,
    and `values` the encoder's row. Moments are microseconds of UTC.
    """

    market: Market

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that makes rows of numbers, in training and here."""
        columns = [column for column in self.market.user_columns if column.role == Role.CUSTOMER]
        inputs = [encoder.Feature(one.name, one.values, one.unknown == "missing") for one in columns]
        return Encoder((*inputs, *(encoder.Feature(name) for feature in self.features for name in feature.columns)))

    @cached_property
    def features(self) -> list[Feature]:
        return user_features(self.market)

    @property
    def viewed(self) -> int:
        """How many of a user's newest views a row keeps."""
        return self.market.retrieval.viewed

    @cached_property
    def timed(self) -> list[Feature]:
        """List the features whose values depend on the moment of the newest event."""
        return [one for one in self.features if one.ages]

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything that determines a row's layout and meaning, cut to 8 bytes."""
        parts = [self.market.users, *self.market.user_columns, *self.market.events, *self.features]
        content = json.dumps([_LAYOUT, self.viewed, *(part.model_dump(mode="json") for part in parts)])
        return hashlib.sha256(content.encode()).digest()[:8]

    @cached_property
    def form(self) -> np.dtype[np.void]:
        fields = [("digest", "V8"), ("at", "<i8"), ("since", "<i8"), ("newest", "<i8", (len(self.timed),))]
        fields += [("live", "<u2"), ("loaded", "<u2"), ("fresh", "<u2")]
        return np.dtype([*fields, ("values", "<f4", (len(self.encoder.names),))])

    def places(self, feature: Feature) -> list[int]:
        """List the places of a feature's columns in a row's values."""
        return [self.encoder.names.index(name) for name in feature.columns]

    def is_ours(self, content: bytes) -> bool:
        """Whether bytes are a row of this contract."""
        return len(content) >= self.form.itemsize and content.startswith(self.digest)

    def row(self, content: bytes) -> UserRow:
        """Read a row."""
        record = np.frombuffer(content, self.form, 1).copy()[0]
        live, loaded, fresh = (int(record[name]) for name in ("live", "loaded", "fresh"))
        views = len(content) - 4 * loaded - LIVE_VIEW.itemsize * fresh
        ids = views - 8 * live
        recent = np.frombuffer(content, "<i8", (ids - self.form.itemsize) // 8, self.form.itemsize)
        return UserRow(
            record,
            recent,
            np.frombuffer(content, "<u8", live, ids),
            np.frombuffer(content, "<u4", loaded, views),
            np.frombuffer(content, LIVE_VIEW, fresh, views + 4 * loaded),
        )

    def packed(self, table: pa.Table, moment: np.datetime64) -> Iterator[tuple[str, bytes]]:
        """Pack a table of `offers.data.snapshot`; yields ids and rows."""
        records = np.zeros(len(table), self.form)
        records["digest"] = np.void(self.digest)
        records["at"] = moment.astype("datetime64[us]").astype(np.int64)
        records["since"] = _microseconds(table[SINCE])
        for place, feature in enumerate(self.timed):
            records["newest"][:, place] = _microseconds(table[NEWEST + feature.name])
        records["values"] = self.encoder.encode(table)
        events, ends = _lists(table[RECENT], np.int64)
        views, view_ends = _lists(table[VIEWED], np.uint32)
        records["loaded"] = np.diff(view_ends, prepend=0) // 4
        size, content, begin, first = self.form.itemsize, records.tobytes(), 0, 0
        rows = zip(table[self.market.users.key].to_pylist(), ends.tolist(), view_ends.tolist(), strict=True)
        for place, (one, end, last) in enumerate(rows):
            yield one, content[place * size : (place + 1) * size] + events[begin:end] + views[first:last]
            begin, first = end, last


def _lists(column: pa.ChunkedArray, kind: type[np.integer]) -> tuple[bytes, NDArray[np.int64]]:
    """Read lists of numbers: the numbers of all as bytes, and where those of each end."""
    lists = column.combine_chunks()
    content = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), kind).tobytes()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False), np.int64)
    return content, np.dtype(kind).itemsize * np.cumsum(lengths)


def _microseconds(moments: pa.ChunkedArray) -> NDArray[np.int64]:
    counts = pc.cast(pc.cast(moments, pa.timestamp("us")), pa.int64())
    return np.asarray(pc.fill_null(counts, NEVER).to_numpy(), np.int64)
