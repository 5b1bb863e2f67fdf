"""Fairness of exposure: which share of each protected group was made an offer, by the decision log."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from offers.contract.contract import Contract
from offers.decisions import history
from offers.evaluation.segments import groups
from offers.experiments.comparison import FEWEST, LEAST_EXPOSURE
from offers.experiments.members import group_columns
from offers.store.delta import DeltaTables

DAYS, MOST = 30, 50_000
"""How far back the log is read, and after how many decisions no further day is."""
_COLUMNS = ["decided_at", "decision_id", "customer", "offer_id", "inputs"]


@dataclass(frozen=True)
class GroupExposure:
    """The customers of a group, and the share of them who were made an offer, in [0, 1].

    `ratio` is the share divided by that of the column's most exposed group, in [0, 1]; NaN where one of the two has
    fewer than `FEWEST` customers.
    """

    column: str
    group: str
    customers: int
    share: float
    ratio: float

    @property
    def verdict(self) -> str:
        """Judge the ratio as the guardrail of experiments does."""
        if np.isnan(self.ratio):
            return "too few"
        return "passes" if self.ratio >= LEAST_EXPOSURE else "fails"


@dataclass(frozen=True)
class Exposure:
    """Exposure of a bundle and a catalogue, over the newest decisions until a moment."""

    decisions: int
    since: datetime
    until: datetime
    groups: tuple[GroupExposure, ...]


def exposure(tables: DeltaTables, bundle: str, catalogue: str, contract: Contract, until: datetime) -> Exposure:
    """Measure the exposure that the decisions of a bundle and a catalogue gave to the contract's protected groups.

    Parameters
    ----------
    catalogue : name and version, as decisions have it

    Raises
    ------
    SourceError
        there is no log
    StorageError
        the store can't be reached
    """
    condition = history.of_versions(bundle, catalogue)
    parts, since = list[pa.Table](), until
    # A day at a time, since the inputs of a month may not fit into memory.
    for _ in range(DAYS):
        day = since - timedelta(days=1)
        parts.insert(0, history.read(tables, day, since, _COLUMNS, condition))
        since = day
        if sum(map(len, parts)) >= MOST:
            break
    rows = pa.concat_tables(parts)
    rows = rows.filter(rows["customer"].is_valid())
    return Exposure(len(rows), since, until, tuple(_of_groups(rows, contract)))


def _of_groups(rows: pa.Table, contract: Contract) -> Iterator[GroupExposure]:
    if not len(rows):
        return
    customers = rows["customer"].to_pandas()
    offered = rows["offer_id"].is_valid().to_pandas()
    # The newest inputs say which group somebody belongs to.
    newest = ~customers.duplicated(keep="last").to_numpy()
    exposed = offered.groupby(customers).max().reindex(customers[newest]).to_numpy(bool)
    divided = group_columns(contract)
    values = history.read_columns(rows.filter(pa.array(newest))["inputs"], divided)
    for column in divided:
        words = groups(pd.Series(values[column.name]), column).to_numpy()
        table = pd.DataFrame({"group": words, "exposed": exposed}).groupby("group", observed=True)
        shares = table["exposed"].agg(["mean", "size"])
        large = shares[shares["size"] >= FEWEST]
        most = float(large["mean"].max()) if len(large) > 1 else float("nan")
        for group, share, size in shares.itertuples():
            ratio = share / most if size >= FEWEST and most > 0 else 1.0 if most == 0 else float("nan")
            yield GroupExposure(column.name, str(group), int(size), float(share), float(ratio))
