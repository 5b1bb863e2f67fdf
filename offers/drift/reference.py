"""The reference of drift: the columns, the thresholds, and sample rows from training.

It imports no contract, because the drift sidecar reads a bundle's reference in an environment that has pydantic 1.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offers.drift import significance
from offers.drift import statistics as drift
from offers.errors import BundleError, DataError

if TYPE_CHECKING:
    from offers.contract.contract import Contract

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Kind = Literal["number", "category", "boolean"]
List = Literal["watched", "expected", "ours"]

WATCH = "watch.json"
SCORE = "_propensity"
FEWEST = 100
"""Rows of a selection; with fewer there would be too little to compare with."""

MISSING, UNSEEN = "(missing)", "(unseen)"

_FORMAT = 1
_BOOLEANS = {"false": 0, "0": 0, "true": 1, "1": 1}


@dataclass(frozen=True)
class Watch:
    """Thresholds of suspect windows and of alarms: a contract's section `watch`, without the contract.

    Attributes
    ----------
    window : number of rows of a window
    consecutive : number of suspect windows in a row that raise an alarm
    p_value : highest p-value of a suspect window
    false_discovery_rate : of alarms, over all tests
    ks, cramers_v, psi : smallest distances of distributions; PSI must also exceed its noise at the window's size
    share_ratio, share_difference : smallest change of one value's share, both needed; missing and unseen values count
    rate_ratio : smallest ratio of mean propensity, or acceptance rate, to the reference's, in either direction
    attribution : normalised discounted cumulative gain of the features' ranks, below which their order has changed
    """

    window: int
    consecutive: int
    p_value: float
    false_discovery_rate: float
    ks: float
    cramers_v: float
    psi: float
    share_ratio: float
    share_difference: float
    rate_ratio: float
    attribution: float

    @classmethod
    def of(cls, contract: "Contract") -> "Watch":
        return cls(**contract.watch.model_dump())


@dataclass(frozen=True)
class WatchedColumn:
    """One input column. It is "expected" if it drifts by nature, "ours" if the bank sets it, and "watched" otherwise.

    Examples
    --------
    >>> WatchedColumn("region", "category", ("north", "south")).encode(pd.Series(["south", None, "west"])).tolist()
    [1.0, nan, 2.0]
    """

    name: str
    kind: Kind
    values: tuple[str, ...] = ()
    role: str = "customer"
    list: List = "watched"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels by which rows are counted: the column's values, one for unseen values, one for missing cells."""
        return (*self.values, UNSEEN, MISSING)

    def encode(self, cells: "pd.Series[Any]") -> Floats:
        """Encode cells: numbers as they are; categories by place in `values`, unseen as len(values); NaN is missing.

        Raises
        ------
        DataError
            a cell of a number is infinite, or is not a number
        """
        return self._numbers(cells) if self.kind == "number" else self._places(cells)

    def _numbers(self, cells: "pd.Series[Any]") -> Floats:
        try:
            numbers = pd.to_numeric(cells).to_numpy(np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise DataError(f"column '{self.name}': expected numbers, but {error}") from None
        if (infinite := np.isinf(numbers)).any():
            raise DataError(
                f"column '{self.name}': expected finite numbers, got {numbers[infinite][0]}"
                f" in row {int(np.flatnonzero(infinite)[0]) + 1}; send null where a value is not known"
            )
        return numbers

    def _places(self, cells: "pd.Series[Any]") -> Floats:
        codes, uniques = pd.factorize(cells)
        places = _BOOLEANS if self.kind == "boolean" else {value: i for i, value in enumerate(self.values)}
        table = [places.get(_word(value, self.kind), len(self.values)) for value in uniques]
        return np.array([*table, np.nan], np.float64)[codes]


def watched_columns(contract: "Contract") -> tuple[WatchedColumn, ...]:
    """Turn the contract's inputs into columns to watch."""
    return tuple(
        WatchedColumn(
            name=column.name,
            kind="number" if column.is_numeric else "boolean" if column.type == "boolean" else "category",
            values=("false", "true") if column.type == "boolean" else column.values,
            role=str(column.role),
            list="expected" if column.drift == "expected" else "ours" if column.role == "offer" else "watched",
        )
        for column in contract.inputs
    )


@dataclass(frozen=True, eq=False)
class Known:
    """Statistics of a reference column: its numbers in rising order, and its rows per bin or per label."""

    column: WatchedColumn
    numbers: Floats
    edges: Floats
    counts: Counts

    @classmethod
    def of(cls, column: WatchedColumn, cells: Floats) -> "Known":
        if column.kind != "number":
            return cls(column, np.empty(0), np.empty(0), _label_counts(column, cells))
        numbers, edges = np.sort(cells[~np.isnan(cells)]), drift.bin_edges(cells)
        return cls(column, numbers, edges, drift.bin_counts(cells, edges))

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    def count(self, cells: Floats) -> Counts:
        """Count rows per bin for a number, else per label; the last count is of missing cells."""
        if self.column.kind == "number":
            return drift.bin_counts(cells, self.edges)
        return _label_counts(self.column, cells)

    def distance(self, cells: Floats, counts: Counts) -> tuple[float, float]:
        """Compute the KS distance or Cramér's V over cells that are not missing, and its p-value.

        Both are NaN where one side has no such cells.
        """
        if self.column.kind != "number":
            both = self.counts[:-1], counts[:-1]
            return drift.cramers_v(*both), significance.chi_squared_p_value(*both)
        present = np.sort(cells[~np.isnan(cells)])
        distance = drift.ks_distance_of_sorted(self.numbers, present)
        return distance, float(significance.ks_p_value(distance, len(self.numbers), len(present)))


@dataclass(frozen=True, eq=False)
class Reference:
    """The rows that windows are compared with, sampled from the training rows, and their propensities.

    Attributes
    ----------
    columns : the model's inputs
    watch : thresholds
    frame : DataFrame, with the columns' names, in any order
    propensity : ndarray, shape (len(frame),), in [0, 1]
    importance : mean |contribution| to the log-odds, by column
    name : the bundle's name
    """

    columns: tuple[WatchedColumn, ...]
    watch: Watch
    frame: pd.DataFrame
    propensity: Floats
    importance: Mapping[str, float] = field(default_factory=dict)
    name: str = ""

    @classmethod
    def of_bundle(cls, path: Path) -> "Reference":
        """Read the reference from a bundle's directory; the files must match the bundle's manifest.

        Raises
        ------
        BundleError
            a file is missing, changed or of another format
        """
        manifest = _read(path, "manifest.json")
        try:
            content = json.loads(manifest)
            name = f"{content['contract']}-{hashlib.sha256(manifest).hexdigest()[:16]}"
            watch, rows = (_verified(path, file, content["files"]) for file in (WATCH, "reference.parquet"))
            frame = pd.read_parquet(BytesIO(rows))
            propensity = frame.pop(SCORE).to_numpy(np.float64)
            columns, thresholds, importance = _of_json(watch)
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"bundle {path}: its reference is not one that this version writes: {error!r}") from None
        return cls(columns, thresholds, frame, propensity, importance, name)

    def __len__(self) -> int:
        return len(self.frame)

    def where(self, mask: NDArray[np.bool_]) -> "Reference":
        """Keep the rows that a mask marks; keep all where it marks fewer than `FEWEST`."""
        if mask.all() or mask.sum() < FEWEST:
            return self
        return replace(self, frame=self.frame[mask].reset_index(drop=True), propensity=self.propensity[mask])

    def noise(self, column: str, rows: int) -> float:
        """Estimate the 99th percentile of a column's PSI in windows of `rows` rows without drift."""
        if (column, rows) not in self._noise:
            self._noise[column, rows] = drift.psi_noise(self.known[column].counts, rows)
        return self._noise[column, rows]

    @cached_property
    def known(self) -> dict[str, Known]:
        """Statistics by column; those of the propensities are under `SCORE`."""
        statistics = {column.name: Known.of(column, column.encode(self.frame[column.name])) for column in self.columns}
        return statistics | {SCORE: Known.of(WatchedColumn(SCORE, "number"), self.propensity)}

    @cached_property
    def _noise(self) -> dict[tuple[str, int], float]:
        return {}


def _label_counts(column: WatchedColumn, places: Floats) -> Counts:
    last = len(column.values) + 1
    return np.bincount(np.nan_to_num(places, nan=last).astype(np.int64), minlength=last + 1)


def _word(value: Any, kind: Kind) -> str:
    """Write a cell as the contract would."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).lower() if kind == "boolean" else str(value)


def watch_json(columns: tuple[WatchedColumn, ...], watch: Watch, importance: Mapping[str, float]) -> str:
    """Build the content of watch.json."""
    content = {
        "format": _FORMAT,
        "columns": [asdict(column) for column in columns],
        "watch": asdict(watch),
        "importance": dict(importance),
    }
    return json.dumps(content, indent=1) + "\n"


def _of_json(text: bytes) -> tuple[tuple[WatchedColumn, ...], Watch, dict[str, float]]:
    """Read what `watch_json` wrote; raises ValueError, KeyError or TypeError for anything else."""
    content = json.loads(text)
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']} of {WATCH}, expected {_FORMAT}")
    columns = tuple(WatchedColumn(**column | {"values": tuple(column["values"])}) for column in content["columns"])
    return columns, Watch(**content["watch"]), content["importance"]


def _read(path: Path, file: str) -> bytes:
    try:
        return (path / file).read_bytes()
    except OSError as error:
        cause = "is missing" if isinstance(error, FileNotFoundError) else f"can't be read ({error.strerror})"
        raise BundleError(f"bundle {path}: {file} {cause}: fetch the bundle again, or train it again") from None


def _verified(path: Path, file: str, hashes: Mapping[str, str]) -> bytes:
    if file not in hashes:
        raise BundleError(f"bundle {path}: it has no {file}, so an older version has written it: train it again")
    content = _read(path, file)
    if hashlib.sha256(content).hexdigest() != hashes[file]:
        raise BundleError(f"bundle {path}: {file} was changed: fetch the bundle again")
    return content
