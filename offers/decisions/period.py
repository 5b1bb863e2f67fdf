"""The period of decisions to look at, and the moment whose knowledge counts."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd

from offers.errors import DataError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")


_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Period:
    """Decisions from `since` (None: the first one) until before `until`, with what was known at `as_of`."""

    since: datetime | None
    until: datetime
    as_of: datetime

    @classmethod
    def parse(cls, since: str, until: str, as_of: str) -> "Period":
        """Read moments such as 2024-05-31 or 2024-05-31T12:00Z, in UTC unless they say otherwise.

        Parameters
        ----------
        since : a moment, or a span before `until` such as 7d; empty for no limit
        until : a moment; empty for `as_of`
        as_of : a moment; outcomes that came later do not count; empty for now

        Raises
        ------
        DataError
            one of them can't be read, or they leave no time between them
        """
        known_at = moment("as-of", as_of) if as_of else datetime.now(UTC)
        end = min(moment("until", until), known_at) if until else known_at
        if not since:
            return cls(None, end, known_at)
        begin = end - span(since) if _SPAN.fullmatch(since) else moment("since", since)
        if begin >= end:
            raise DataError(
                f"since {since!r}: expected a moment before {end:%Y-%m-%d %H:%M} UTC, where the period ends"
            )
        return cls(begin, end, known_at)

    def holds(self, moments: pd.Series) -> pd.Series:
        """Mark the moments, of dtype datetime64 in UTC, that lie in the period."""
        inside = moments < self.until
        return inside if self.since is None else inside & (moments >= self.since)


def span(text: str) -> timedelta:
    """Read a span of time: 30m, 12h, 7d or 2w.

    Raises
    ------
    DataError
        the text has another form, or the span is 0
    """
    match = _SPAN.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise DataError(f"span {text!r}: expected a number of minutes, hours, days or weeks, as 30m, 12h, 7d or 2w")
    return timedelta(**{_UNITS[match[2]]: float(match[1])})


def moment(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"{name} {text!r}: expected a moment such as 2024-05-31 or 2024-05-31T12:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
