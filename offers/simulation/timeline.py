"""The months of a simulated world."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offers.contract.column import MONTHS
from offers.contract.contract import Contract
from offers.errors import ContractError
from offers.simulation.arrays import NANOSECONDS, SECONDS, Floats, Times


@dataclass(frozen=True)
class Months:
    """The timeline: months, and the share of all rows at which each of them ends."""

    first: Times
    ends: Floats

    @property
    def shares(self) -> Floats:
        return np.diff(self.ends, prepend=0.0)

    def standardised(self, path: Floats) -> Floats:
        """Give a path over months mean 0 and standard deviation 1 over rows."""
        centred = path - self.shares @ path
        return np.asarray(centred / (math.sqrt(self.shares @ centred**2) or 1.0))

    def at(self, position: Floats) -> NDArray[np.intp]:
        """Find the month at each position on the timeline, in [0, 1)."""
        return np.searchsorted(self.ends[:-1], position, side="right")

    def moments(self, position: Floats) -> Times:
        month = self.at(position)
        begin = self.first.astype(SECONDS)
        length = ((self.first + 1).astype(SECONDS) - begin).astype(np.float64)
        fraction: Floats = (position - (self.ends - self.shares)[month]) / self.shares[month]
        moments = begin[month] + (fraction * length[month]).astype("timedelta64[s]")
        return np.asarray(moments.astype(NANOSECONDS))

    def codes(self, position: Floats, names: Sequence[str]) -> Floats:
        """Find the place in `names` of the name of the month at each position."""
        places = [names.index(_name(month)) for month in self.first]
        return np.array(places, dtype=np.float64)[self.at(position)]


def _name(month: np.datetime64) -> str:
    return MONTHS[month.astype(int) % 12]


def calendar(contract: Contract) -> Times:
    """List consecutive months within the contract's time, without those that its month column has no name for."""
    time, periods = contract.time, contract.simulation.periods
    start = np.datetime64((time and time.start) or "2024-01", "M")
    until = np.datetime64(time.until, "M") if time and time.until else start + 12 * periods
    names = (time and contract[time.column].values) or MONTHS
    months = [month for month in np.arange(start, until + 1) if _name(month) in names]
    if not months:
        raise ContractError(f"contract {contract.name}: expected a month of {names} from {start} to {until}, got none")
    return np.array(months[:periods])
