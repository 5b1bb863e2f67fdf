"""Trains on rows that stay in their Parquet file: blocks of them become bins, in memory or in files."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import xgboost as xgb
from pyarrow import parquet

from offers.contract.contract import Contract
from offers.contract.sections import ModelSettings
from offers.data.dataset import LABEL, WEIGHT
from offers.model.boosters import Booster
from offers.model.calibrator import Platt
from offers.model.encoder import Encoder
from offers.model.propensity import PropensityModel, margins
from offers.training.boosting import parameters
from offers.training.calibration import calibrate, calibration_edges
from offers.training.dynamics import first_layer
from offers.training.learners import BoostedTrees
from offers.training.size import Form, affordable

BLOCK = 131_072
LAYER_ROWS = 500_000
"""The newest rows, from which a layer learns: with a memory of 30 000 rows it has forgotten all others."""

Block = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Encoded rows, labels and weights."""


@dataclass(frozen=True)
class StoredRows:
    """The rows that `prepare` wrote, in time order."""

    path: Path
    contract: Contract

    def __len__(self) -> int:
        return int(parquet.ParquetFile(self.path).metadata.num_rows)

    @property
    def has_missing(self) -> bool:
        """Whether an input has a missing cell, as the file's own counts say; True where it has none."""
        metadata = parquet.ParquetFile(self.path).metadata
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        columns = [group.column(place) for group in groups for place in range(group.num_columns)]
        inputs = {column.name for column in self.contract.inputs}
        counts = [column.statistics for column in columns if column.path_in_schema in inputs]
        return any(count is None or not count.has_null_count or count.null_count > 0 for count in counts)

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Yield rows from `start` to `stop`, at most `BLOCK` at a time."""
        encoder, before, weight = Encoder.of(self.contract), 0, [WEIGHT] if self.contract.weight is not None else []
        # A buffer would keep the bytes of all that was read.
        file = parquet.ParquetFile(self.path, pre_buffer=False)
        for batch in file.iter_batches(BLOCK, columns=[*encoder.names, LABEL, *weight]):
            part = batch.slice(max(start - before, 0), max(min(stop, before + len(batch)) - max(start, before), 0))
            before += len(batch)
            if len(part):
                labels = part[LABEL].to_numpy().astype(np.int8, copy=False)
                weights = part[WEIGHT].to_numpy() if weight else None
                yield encoder.encode(pa.Table.from_batches([part])), labels, weights
            if before >= stop:
                return

    def part(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Read encoded rows and their labels."""
        matrices, labels, _ = zip(*self.blocks(start, stop), strict=True)
        return np.concatenate(matrices), np.concatenate(labels)


class _Blocks(xgb.DataIter):
    """Hands blocks to XGBoost, which asks for all of them several times."""

    def __init__(self, blocks: Callable[[], Iterator[Block]], feature_types: list[str], cache: str | None) -> None:
        super().__init__(cache_prefix=cache, release_data=True)
        self._make, self._feature_types = blocks, feature_types
        self._rest = blocks()

    def next(self, input_data: Callable[..., None]) -> bool:
        block = next(self._rest, None)
        if block is None:
            return False
        matrix, labels, weights = block
        input_data(data=matrix, label=labels, weight=weights, feature_types=self._feature_types)
        return True

    def reset(self) -> None:
        self._rest = self._make()


def train(
    contract: Contract, settings: ModelSettings, rows: StoredRows, form: Form, scratch: Path, seed: int = 0
) -> PropensityModel:
    """Fit booster, and layer or calibrator, as `offers.training.learners.train` does, without all rows in memory.

    A layer learns from the newest `LAYER_ROWS` rows. Refits for the calibrator are those of `affordable`.

    Parameters
    ----------
    form : `BLOCKS` or `EXTERNAL`
    scratch : directory for temporary files, where the form is `EXTERNAL`
    """
    n_rows, encoder = len(rows), Encoder.of(contract)
    fit = partial(_fit, contract, settings, rows, form, scratch, seed)
    layer = first_layer(contract, *rows.part(max(n_rows - LAYER_ROWS, 0), n_rows)) if contract.learns else None
    if layer is not None or contract.calibration.method == "none":
        return PropensityModel(encoder, fit(n_rows), Platt(), layer)
    edges = calibration_edges(n_rows, affordable(contract, n_rows).evaluation.refit_every, contract.calibration)
    margin, labels = list[np.ndarray](), list[np.ndarray]()
    for start, stop in pairwise([*edges, n_rows]):
        booster = fit(start)
        for matrix, outcomes, _ in rows.blocks(start, stop):
            margin.append(margins(booster, matrix))
            labels.append(outcomes)
    calibrator = calibrate(np.concatenate(margin), np.concatenate(labels), contract.calibration)
    return PropensityModel(encoder, fit(n_rows), calibrator)


def _fit(
    contract: Contract, settings: ModelSettings, rows: StoredRows, form: Form, scratch: Path, seed: int, stop: int
) -> Booster:
    """Fit the trees on the rows before `stop`."""
    start = max(stop - settings.newest_rows, 0) if settings.newest_rows else 0
    learner, blocks = BoostedTrees.of(contract, settings, seed), partial(rows.blocks, start, stop)
    params = parameters(settings, learner.monotone, seed)
    types = list(learner.feature_types)
    if form is Form.BLOCKS:
        bins = xgb.QuantileDMatrix(_Blocks(blocks, types, None), enable_categorical=True, nthread=1)
        return xgb.train(params, bins, settings.trees)
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        source = _Blocks(blocks, types, str(Path(directory) / "bins"))
        external = xgb.ExtMemQuantileDMatrix(source, enable_categorical=True, nthread=1)
        booster = xgb.train(params, external, settings.trees)
        # It holds its files open for as long as it lives.
        del external, source
    return booster
