"""The gold layer: typed features, the label and the period of each row, in time order where there is one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from offers.contract import Contract, Role
from offers.errors import DataError
from offers.features import Encoder, fingerprint
from offers.validation import periods

LABEL, PERIOD = "_label", "_period"


@dataclass(frozen=True)
class Dataset:
    """Rows ready for learning. `frame` holds inputs and protected columns only; leakage is not in it."""

    frame: pd.DataFrame
    labels: np.ndarray
    periods: np.ndarray

    @classmethod
    def prepare(cls, typed: pd.DataFrame, contract: Contract) -> "Dataset":
        """Take what a model and its audit may see from validated rows."""
        kept = [column.name for column in contract.columns if column.is_input or column.role == Role.PROTECTED]
        labels = typed[contract.target.column].to_numpy(dtype=np.int8)
        return cls(typed[kept], labels, periods(typed, contract))

    def __len__(self) -> int:
        return len(self.labels)

    def encode(self, contract: Contract) -> np.ndarray:
        return Encoder.of(contract).encode(self.frame)

    def fingerprint(self, contract: Contract) -> str:
        return fingerprint(self.encode(contract), self.labels)

    def save(self, path: Path) -> None:
        self.frame.assign(**{LABEL: self.labels, PERIOD: self.periods}).to_parquet(path, index=False)

    @classmethod
    def load(cls, path: Path, contract: Contract) -> "Dataset":
        frame = pd.read_parquet(path)
        if missing := {LABEL, PERIOD, *(column.name for column in contract.inputs)} - set(frame.columns):
            raise DataError(f"{path} is no prepared data set of contract {contract.name}: it lacks {sorted(missing)}")
        for column in contract.inputs:
            if column.type == "category":
                frame[column.name] = frame[column.name].astype(pd.CategoricalDtype(list(column.values)))
        labels, period = frame.pop(LABEL), frame.pop(PERIOD)
        return cls(frame, labels.to_numpy(dtype=np.int8), period.to_numpy(dtype=str))
