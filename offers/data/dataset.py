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

LABEL, WEIGHT = "_label", "_weight"


@dataclass(frozen=True)
class Dataset:
    """Rows ready for learning. `frame` has only inputs and protected columns, and no leakage.

    `weights` says how much each row counts in the fits, shape (n_rows,), where the contract has such a column.
    """

    frame: pd.DataFrame
    labels: np.ndarray
    periods: np.ndarray
    weights: np.ndarray | None = None

    @classmethod
    def prepare(cls, typed: pd.DataFrame, contract: Contract) -> "Dataset":
        """Keep the columns of validated rows that a model and its audit may see."""
        names = [column.name for column in contract.columns if column.is_input or column.role == Role.PROTECTED]
        labels = typed[contract.target.column].to_numpy(dtype=np.int8)
        weights = typed[contract.weight].to_numpy(dtype=np.float64) if contract.weight is not None else None
        return cls(typed[names], labels, periods(typed, contract), weights)

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, rows: int) -> "Dataset":
        """The first `rows` rows."""
        weights = None if self.weights is None else self.weights[:rows]
        return Dataset(self.frame.iloc[:rows], self.labels[:rows], self.periods[:rows], weights)

    def encode(self, contract: Contract) -> np.ndarray:
        return Encoder.of(contract).encode(self.frame)

    def fingerprint(self, contract: Contract) -> str:
        return fingerprint(self.encode(contract), self.labels, self.weights)

    def to_frame(self) -> pd.DataFrame:
        """Join everything into one table, with label, period and, where there is one, weight as the last columns."""
        weight = {} if self.weights is None else {WEIGHT: self.weights}
        return self.frame.assign(**{LABEL: self.labels, PERIOD: self.periods}, **weight)

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, contract: Contract) -> "Dataset":
        """Read the result of `to_frame`, also from Parquet; categories get the contract's order again."""
        own = {LABEL, PERIOD} | ({WEIGHT} if contract.weight is not None else set())
        if missing := {*own, *(column.name for column in contract.inputs)} - set(frame.columns):
            raise DataError(
                f"expected rows prepared by contract {contract.name}, got a table without {sorted(missing)}"
            )
        words = [column for column in contract.inputs if column.type == "category"]
        frame = frame.astype({column.name: pd.CategoricalDtype(list(column.values)) for column in words})
        labels, period = frame.pop(LABEL), frame.pop(PERIOD)
        weights = frame.pop(WEIGHT).to_numpy(dtype=np.float64) if contract.weight is not None else None
        return cls(frame, labels.to_numpy(dtype=np.int8), period.to_numpy(dtype=str), weights)


def origin(contract: Contract, n_rows: int) -> int:
    """Find the first row that is scored: the end of the first training share, or 0 where there is no time order."""
    return int(n_rows * contract.evaluation.train_share) if contract.time is not None else 0


def windows(contract: Contract, n_rows: int) -> list[slice]:
    """List the successive out-of-time windows; empty where there is no time order."""
    if contract.time is None:
        return []
    edges = np.linspace(origin(contract, n_rows), n_rows, contract.evaluation.windows + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]
