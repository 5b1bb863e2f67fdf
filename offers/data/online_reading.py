"""What rows of the online store say of users at a moment: values age, and events leave their windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offers.data.online_row import NEVER, RowForm, UserRow
from offers.data.snapshot import KINDS, event_weights

DAY = 86_400_000_000
"""Microseconds."""


@dataclass(frozen=True, eq=False)
class OnlineRows:
    """Rows of users as the models see them.

    Attributes
    ----------
    matrix : ndarray, shape (users, columns), float32; NaN where missing
    moments : ndarray of datetime64[us], shape (users,), at which the rows were loaded; NaT where there is no row
    foreign : number of rows of another contract, which count as absent
    stale : for each table or feature, the number of users whose values were beyond their time to live
    viewed : ndarray of int64, shape (users, the contract's history), the products of the newest views, as
        `offers.data.snapshot.code_of` numbers them; -1 where there are not as many
    """

    matrix: NDArray[np.float32]
    moments: NDArray[np.datetime64]
    foreign: int
    stale: Mapping[str, int]
    viewed: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reading:
    """Reads rows of a form.

    Parameters
    ----------
    windows : whether the events within windows are counted; otherwise the rows' own values hold
    """

    form: RowForm
    windows: bool = True

    @cached_property
    def kinds(self) -> dict[str, int]:
        """The place of each kind of event in the contract."""
        return {event.name: place for place, event in enumerate(self.form.market.events)}

    def known(self, rows: Sequence[UserRow], now: np.datetime64) -> OnlineRows:
        """Compute what rows say as of `now`."""
        present = int(now.astype("datetime64[us]").astype(np.int64))
        records = np.array([row.record for row in rows], self.form.form)
        values, stale = self._aged(records, present)
        if self.windows:
            self._count_recent(rows, values, present)
        viewed = np.full((len(rows), self.form.viewed), -1, np.int64)
        for place, row in enumerate(rows):
            codes = row.viewed(present, self.form.viewed)
            viewed[place, : len(codes)] = codes
        return OnlineRows(values, records["at"].astype("datetime64[us]"), 0, stale, viewed)

    def _aged(self, records: NDArray[np.void], now: int) -> tuple[NDArray[np.float32], dict[str, int]]:
        """Compute values as of `now`, apart from those of windows, and count those beyond their time to live."""
        form, values, stale = self.form, records["values"], dict[str, int]()
        users = self.form.market.users.time_to_live
        if users is not None:
            inputs = len(form.encoder.names) - sum(len(feature.columns) for feature in form.features)
            beyond = records["since"] + round(users * DAY) < now
            values[beyond, :inputs] = np.nan
            stale["users"] = int(beyond.sum())
        for place, feature in enumerate(form.timed):
            newest, columns = records["newest"][:, place], form.places(feature)
            never = newest == NEVER
            if feature.aggregate == "recency":
                # An event of another machine may be ahead of this one's clock.
                values[:, columns] = (np.maximum(now - newest, 0) / DAY)[:, None]
            gone = never
            if feature.time_to_live is not None:
                beyond = ~never & (newest + round(feature.time_to_live * DAY) < now)
                stale[feature.name], gone = int(beyond.sum()), never | beyond
            values[np.ix_(gone, columns)] = np.nan
        return values, stale

    def _count_recent(self, rows: Sequence[UserRow], values: NDArray[np.float32], now: int) -> None:
        """Count the events within windows; a missing value stays missing."""
        recent = [row.recent for row in rows]
        events = np.concatenate([*recent, np.empty(0, np.int64)])
        owners = np.repeat(np.arange(len(rows)), [len(one) for one in recent])
        moments, kinds = events // KINDS, events % KINDS
        for feature in self.form.features:
            weights = np.zeros(KINDS)
            for name, weight in event_weights(self.form.market, feature).items():
                weights[self.kinds[name]] = weight
            for place, window in zip(self.form.places(feature), feature.columns.values(), strict=True):
                if window is not None:
                    within = (moments >= now - round(window * DAY)) & (moments < now)
                    sums = np.bincount(owners[within], weights[kinds[within]], len(rows))
                    values[:, place] = np.where(np.isnan(values[:, place]), np.nan, sums)
