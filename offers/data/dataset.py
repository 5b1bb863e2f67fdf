"""The gold layer: typed features, label and period of each row, in time order where the contract has one."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.data.periods import PERIOD, periods
from offers.errors import DataError
from offers.model.encoder import Encoder, fingerprint

LABEL, WEIGHT, GROUP = "_label", "_weight", "_group"


@dataclass(frozen=True)
class Dataset:
    """Rows ready for learning. `frame` has only inputs and protected columns, and no leakage.

    `weights` says how much each row counts in the fits, shape (n_rows,), where the contract has such a column.
    `groups` numbers the rows that have to stay in one fold, where the contract names a column for that.
    """

    frame: pd.DataFrame
    labels: np.ndarray
    periods: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None

    @classmethod
    def prepare(cls, typed: pd.DataFrame, contract: Contract) -> "Dataset":
        """Keep the columns of validated rows that a model and its audit may see."""
        names = [column.name for column in contract.columns if column.is_input or column.role == Role.PROTECTED]
        labels = typed[contract.target.column].to_numpy(dtype=np.int8)
        weights = typed[contract.weight].to_numpy(dtype=np.float64) if contract.weight is not None else None
        group = contract.evaluation.group
        groups = None if group is None else _numbered(typed[group])
        return cls(typed[names], labels, periods(typed, contract), weights, groups)

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, rows: int) -> "Dataset":
        """The first `rows` rows."""
        weights, groups = (None if array is None else array[:rows] for array in (self.weights, self.groups))
        return Dataset(self.frame.iloc[:rows], self.labels[:rows], self.periods[:rows], weights, groups)

    def encode(self, contract: Contract) -> np.ndarray:
        return Encoder.of(contract).encode(self.frame)

    def fingerprint(self, contract: Contract) -> str:
        return fingerprint(self.encode(contract), self.labels, self.weights)

    def to_frame(self) -> pd.DataFrame:
        """Join everything into one table, with label, period, and weight and group if there are, as last columns."""
        optional = {WEIGHT: self.weights, GROUP: self.groups}
        columns = {name: array for name, array in optional.items() if array is not None}
        return self.frame.assign(**{LABEL: self.labels, PERIOD: self.periods}, **columns)

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, contract: Contract) -> "Dataset":
        """Read the result of `to_frame`, also from Parquet; categories get the contract's order again."""
        own, group = {LABEL, PERIOD} | ({WEIGHT} if contract.weight is not None else set()), contract.evaluation.group
        own |= {GROUP} if group is not None else set()
        if missing := {*own, *(column.name for column in contract.inputs)} - set(frame.columns):
            raise DataError(
                f"expected rows prepared by contract {contract.name}, got a table without {sorted(missing)}"
            )
        words = [column for column in contract.inputs if column.type == "category"]
        frame = frame.astype({column.name: pd.CategoricalDtype(list(column.values)) for column in words})
        labels, period = frame.pop(LABEL), frame.pop(PERIOD)
        weights = frame.pop(WEIGHT).to_numpy(dtype=np.float64) if contract.weight is not None else None
        groups = frame.pop(GROUP).to_numpy() if group is not None else None
        return cls(frame, labels.to_numpy(dtype=np.int8), period.to_numpy(dtype=str), weights, groups)


def _numbered(values: pd.Series) -> np.ndarray:
    """Number the groups by their first row, without their names; a row without a value is a group of its own."""
    numbers, names = pd.factorize(values)
    alone = numbers < 0
    numbers[alone] = len(names) + np.arange(alone.sum())
    return np.asarray(numbers)


def origin(contract: Contract, n_rows: int) -> int:
    """Find the first row that is scored: the end of the first training share, or 0 where there is no time order."""
    return int(n_rows * contract.evaluation.train_share) if contract.time is not None else 0


def windows(contract: Contract, n_rows: int) -> list[slice]:
    """List the successive out-of-time windows; empty where there is no time order."""
    if contract.time is None:
        return []
    edges = np.linspace(origin(contract, n_rows), n_rows, contract.evaluation.windows + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]
