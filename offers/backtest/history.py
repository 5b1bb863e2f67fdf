"""The rows of a replay, and the models trained on their first so many rows, kept between replays."""

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from offers.backtest import candidate
from offers.bundle.provenance import libraries
from offers.bundle.writing import reference_places
from offers.contract.contract import Contract
from offers.data.dataset import Dataset, origin
from offers.drift.examination import MIX_SEED, at_reference_offers
from offers.drift.reference import SCORE, Known, Reference, Watch, WatchedColumn, watched_columns
from offers.evaluation.figures import Evaluation
from offers.model import layer as layer_module
from offers.model.boosters import LIBRARIES, Booster
from offers.model.calibrator import Platt
from offers.model.encoder import Encoder
from offers.model.layer import Layer
from offers.model.propensity import PropensityModel, margins
from offers.training.calibration import calibrate, calibration_edges
from offers.training.dynamics import first_layer
from offers.training.learners import BoostedTrees, Margin, out_of_time_margins

KEPT = 32


_KEPT_REFERENCES = 8


@dataclass(frozen=True, eq=False)
class History:
    """Rows in time order, and a directory that keeps boosters by the number of rows they were trained on."""

    contract: Contract
    dataset: Dataset
    directory: Path
    seed: int = 0
    days: np.ndarray | None = None
    """Of each row, where the contract has a time order: see `offers.data.periods.days`."""

    @cached_property
    def matrix(self) -> np.ndarray:
        return self.dataset.encode(self.contract)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The model's inputs."""
        return self.dataset.frame[self.encoder.names]

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder.of(self.contract)

    @property
    def origin(self) -> int:
        return origin(self.contract, len(self.dataset))

    @cached_property
    def train(self) -> Callable[[int, bool, int], PropensityModel]:
        """Return a function that trains as `learners.train` does, but takes boosters from the directory.

        Its first argument is the number of rows, counted from the first. The second says whether the model gets a
        layer, if the contract has one; without it the contract is read as if it said `dynamics: none`. The third is the
        layer's lag, in rows.
        """
        return lru_cache(KEPT)(self._train)

    def _train(self, rows: int, learns: bool, lag: int) -> PropensityModel:
        contract, labels = self.contract, self.dataset.labels[:rows]
        if learns and contract.learns:
            return PropensityModel(self.encoder, self._booster(rows), Platt(), self._layer(rows, lag))
        edges = calibration_edges(rows, contract.evaluation.refit_every, contract.calibration)
        margin = out_of_time_margins(self.learner, self.matrix[:rows], labels, edges, workers=1)
        calibrator = calibrate(margin, labels, contract.calibration)
        return PropensityModel(self.encoder, self._booster(rows), calibrator)

    @cached_property
    def figures(self) -> Callable[[int, bool], tuple[Evaluation, np.ndarray]]:
        """Return `candidate.figures` of this history, with its results kept."""
        return lru_cache(KEPT)(partial(candidate.figures, self))

    def refits(self, kind: candidate.Kind, begin: int) -> np.ndarray:
        """Return `candidate.refits` of this history, with its results kept; a copy in another process has them, too."""
        if (kind, begin) not in self._refits:
            self._refits[kind, begin] = candidate.refits(self, kind, begin)
        return self._refits[kind, begin]

    @cached_property
    def _refits(self) -> dict[tuple[candidate.Kind, int], np.ndarray]:
        return {}

    def fits(self, rows: int, learns: bool) -> int:
        """Count the boosters that a training fits: the final one and, without a layer, those for its calibration."""
        contract = self.contract
        if learns and contract.learns:
            return 1
        return 1 + len(calibration_edges(rows, contract.evaluation.refit_every, contract.calibration))

    def _booster(self, rows: int) -> Booster:
        return self.learner.booster(self.matrix[:rows], self.dataset.labels[:rows])

    def _layer(self, rows: int, lag: int) -> Layer:
        """The layer of a training on the first `rows` rows, kept like the boosters."""
        path = self.directory / self._layer_key / f"{rows}-{lag}.json"
        if not path.exists():
            layer = first_layer(self.contract, self.matrix[:rows], self.dataset.labels[:rows], lag)
            assert layer is not None
            _keep(path, layer.to_json().encode())
        return Layer.from_json(path.read_text("utf-8"))

    def reference(self, model: PropensityModel, rows: int, name: str) -> Reference:
        """Build the drift reference of a bundle of this model, trained on the first `rows` rows."""
        trees, matrix, margin = self._reference(rows)
        log_odds = model.calibrator.log_odds(margin)
        propensity = expit(log_odds if model.layer is None else model.layer.mixed(log_odds, matrix))
        return _Rescored(trees.columns, trees.watch, trees.frame, propensity, name=name, trees=trees)

    @cached_property
    def _reference(self) -> Callable[[int], tuple[Reference, np.ndarray, np.ndarray]]:
        return lru_cache(_KEPT_REFERENCES)(self._uncalibrated_reference)

    def _uncalibrated_reference(self, rows: int) -> tuple[Reference, np.ndarray, np.ndarray]:
        """Build the reference of the trees alone; also return its encoded rows and margins, at `at_mix`'s offers."""
        places, watch = reference_places(rows), Watch.of(self.contract)
        booster = self.learner.booster(self.matrix[:rows], self.dataset.labels[:rows])
        frame = self.frame.iloc[places]
        unscored = Reference(watched_columns(self.contract), watch, frame, np.zeros(len(frame)))
        matrix = self.encoder.encode(at_reference_offers(unscored, frame, seed=MIX_SEED), threads=1)
        margin = margins(booster, matrix)
        return replace(unscored, propensity=expit(margin.astype(float))), matrix, margin

    @cached_property
    def learner(self) -> "_KeptTrees":
        """The trees of the contract, kept by the number of rows."""
        trees = BoostedTrees.of(self.contract, self.contract.model, self.seed)
        return _KeptTrees(trees, self.directory / self._key, self.dataset.weights)

    @cached_property
    def _key(self) -> str:
        """Hash everything that a booster depends on, except the number of rows."""
        monotone = [column.monotone for column in self.contract.inputs]
        settings = self.contract.model
        return self._digest([settings.model_dump(), monotone, self.seed, libraries(settings.learner)])

    @cached_property
    def _layer_key(self) -> str:
        """Hash everything that a layer depends on, except the number of rows and the lag."""
        return self._digest(
            ["layer", inspect.getsource(layer_module), self.contract.dynamics.model_dump(), libraries()]
        )

    def _digest(self, identity: list[Any]) -> str:
        identity = [*identity, self.encoder.to_json(), self.dataset.fingerprint(self.contract)]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class _Rescored(Reference):
    """The reference of trees under another calibrator or layer; the columns' statistics are those of the trees'."""

    trees: Reference = field(kw_only=True)

    @cached_property
    def known(self) -> dict[str, Known]:
        return self.trees.known | {SCORE: Known.of(WatchedColumn(SCORE, "number"), self.propensity)}

    def noise(self, column: str, rows: int) -> float:
        return super().noise(column, rows) if column == SCORE else self.trees.noise(column, rows)


@dataclass(frozen=True, eq=False)
class _KeptTrees:
    """A learner that keeps its boosters by their number of rows.

    It must always get the first rows of the same data set, so that the number of rows says which they are.
    """

    learner: BoostedTrees
    directory: Path
    weights: np.ndarray | None

    def fit(self, matrix: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Margin:
        booster = self.booster(matrix, labels)
        return lambda rows: margins(booster, rows)

    def booster(self, matrix: np.ndarray, labels: np.ndarray) -> Booster:
        name = self.learner.settings.learner
        path = self.directory / f"{len(labels)}{Path(LIBRARIES[name].file).suffix}"
        if not path.exists():
            weights = None if self.weights is None else self.weights[: len(labels)]
            _keep(path, LIBRARIES[name].dump(self.learner.booster(matrix, labels, weights)))
        return _loaded(path, name)


def _keep(path: Path, content: bytes | bytearray) -> None:
    """Write a file under another name and rename it, so that no other process ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).rename(path)


@lru_cache(maxsize=KEPT)
def _loaded(path: Path, learner: str) -> Booster:
    booster = LIBRARIES[learner].load(path.read_bytes())
    if learner == "xgboost":
        # One thread, as the other libraries use: replays run side by side and fill the cores already.
        booster.set_param({"nthread": 1})
    return booster
