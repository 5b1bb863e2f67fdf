"""What is known when: how late labels are, in rows or in days, and between which rows a model may change."""

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from offers.contract.contract import Contract
from offers.errors import ContractError, DataError

if TYPE_CHECKING:
    from offers.backtest.history import History


@dataclass(frozen=True)
class Delay:
    """How late labels are: `count` rows, or `count` days after the decision.

    By days decisions are made in daily batches, so that no label is known before the next day.
    """

    count: int = 0
    by_days: bool = False

    @classmethod
    def parse(cls, text: str) -> "Delay":
        """Read what the command line says: rows such as "500", or days such as "30d"."""
        if not re.fullmatch(r"\d{1,9}d?", text):
            raise ContractError(f"delay {text!r}: expected a number of rows such as 500, or of days such as 30d")
        return cls(int(text.removesuffix("d")), text.endswith("d"))

    def __str__(self) -> str:
        return f"{self.count}{'d' if self.by_days else ''}"

    @property
    def span(self) -> str:
        return f"{self.count} {'days' if self.by_days else 'rows'}"

    @property
    def words(self) -> str:
        if self.by_days:
            late = "the next day" if self.count < 2 else f"{self.count} days later"
            return f"labels known {late}, decisions in daily batches"
        return f"labels known {self.count} rows later" if self.count else "labels known at once"


AT_ONCE = Delay()


def usual_delay(contract: Contract) -> Delay:
    """The days after which the contract's labels mature, where its rows have dates; else 0 rows."""
    days = math.ceil(contract.target.matures_after_days)
    dated = contract.time is not None and contract[contract.time.column].type == "date"
    return Delay(days, by_days=True) if dated and days else AT_ONCE


@dataclass(frozen=True, eq=False)
class Clock:
    """The time of a replay."""

    history: "History"
    delay: Delay

    def known(self, at: int) -> int:
        """How many rows, the first ones, have labels that are known before row `at` is scored."""
        return int(self.counts[at])

    def moments(self, start: int, step: int) -> list[int]:
        """Rows before which a model may change, from `start` on: every `step` rows, or the first of each day."""
        if not self.delay.by_days:
            return list(range(start, len(self.counts), step))
        first_of_day = np.flatnonzero(np.diff(self._days, prepend=self._days[0] - 1))
        return [start, *(int(at) for at in first_of_day if at > start)]

    @cached_property
    def counts(self) -> np.ndarray:
        """`known` of every row, shape (n_rows,)."""
        if not self.delay.by_days:
            return np.maximum(np.arange(len(self.history.dataset)) - self.delay.count, 0)
        return np.searchsorted(self._days, self._days - max(self.delay.count, 1), side="right")

    @property
    def _days(self) -> np.ndarray:
        if self.history.days is None:
            raise DataError(
                f"contract {self.history.contract.name}: a delay of {self.delay.count} days needs the days of rows, "
                "and none are known: give the delay in rows"
            )
        return self.history.days
