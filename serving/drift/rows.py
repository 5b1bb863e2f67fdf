"""Rows that have arrived and wait to be judged, oldest first."""

from collections.abc import Iterable

import pandas as pd


class Rows:
    """Holds at most `limit` rows; a window is looked at first, and taken away when it has been judged."""

    def __init__(self, limit: int, frames: Iterable[pd.DataFrame] = ()) -> None:
        self.limit = limit
        self._frames = [frame for frame in frames if len(frame)]

    def __len__(self) -> int:
        return sum(map(len, self._frames))

    @property
    def room(self) -> int:
        """How many more rows there is place for."""
        return max(0, self.limit - len(self))

    def add(self, frame: pd.DataFrame) -> None:
        if len(frame):
            self._frames.append(frame)

    def first(self, n_rows: int) -> pd.DataFrame:
        """The oldest `n_rows` rows, which stay."""
        return self._whole().iloc[:n_rows]

    def all(self) -> pd.DataFrame | None:
        """Every row, which stays; None where there is none."""
        return self._whole() if self._frames else None

    def drop(self, n_rows: int) -> None:
        """Take the oldest `n_rows` rows away."""
        rest = self._whole().iloc[n_rows:]
        self._frames = [rest] if len(rest) else []

    def _whole(self) -> pd.DataFrame:
        if len(self._frames) > 1:
            self._frames = [pd.concat(self._frames, ignore_index=True)]
        return self._frames[0]
