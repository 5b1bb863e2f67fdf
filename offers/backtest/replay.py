"""The loop over history: rows in time order are scored, logged, watched and learnt from, as they would have been.

A replay uses the functions that the product uses, on rows and labels that were known at the time: at row t the rows
before t, and the labels of rows before t - delay.
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import gcd
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Literal

import numpy as np
import pandas as pd
import xgboost as xgb
from scipy.special import expit

from offers.bundle.provenance import libraries
from offers.bundle.writing import reference_places
from offers.contract.contract import Contract
from offers.data.dataset import Dataset, origin
from offers.drift.examination import MIX_SEED, at_reference_offers, examine
from offers.drift.reference import SCORE, Known, Reference, Watch, WatchedColumn, watched_columns
from offers.drift.streak import Streak
from offers.drift.window import WindowReport
from offers.evaluation import gate, metrics
from offers.model import layer as layer_module
from offers.model.encoder import Encoder
from offers.model.layer import Layer
from offers.model.propensity import Calibrator, PropensityModel, margins
from offers.monitoring import two_of_three as verdict
from offers.monitoring.promise import judge
from offers.monitoring.two_of_three import Action, Signals
from offers.training.calibration import calibrate, calibration_edges
from offers.training.dynamics import first_layer, learn
from offers.training.learners import BoostedTrees, Margin, out_of_time_margins

Trigger = Literal["never", "rows", "month", "drift", "two of three"]

_KEPT, _KEPT_REFERENCES = 32, 8


@dataclass(frozen=True)
class Schedule:
    """When a model is trained again: `every` rows where the trigger is rows; and whether a layer learns between."""

    trigger: Trigger
    learns: bool
    every: int = 0

    @property
    def schedule(self) -> str:
        return f"every {self.every} rows" if self.trigger == "rows" else _NAMES.get(self.trigger, self.trigger)

    @property
    def name(self) -> str:
        return self.schedule + (" + layer" if self.learns else "")

    @property
    def looks(self) -> bool:
        """Whether what it does depends on signals."""
        return self.trigger in ("drift", "two of three")


_NAMES = {"month": "every month", "drift": "on drift"}


@dataclass(frozen=True, eq=False)
class History:
    """Rows in time order, and a directory where boosters are kept by the number of rows they were trained on."""

    contract: Contract
    dataset: Dataset
    directory: Path
    seed: int = 0

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
        """What `learners.train` makes of so many rows, the first ones, with boosters from the directory.

        The second argument says whether there is a layer, if the contract has one; without it the contract is taken
        for one that says `dynamics: none`. The third is the layer's lag.
        """
        return lru_cache(_KEPT)(self._train)

    def _train(self, rows: int, learns: bool, lag: int) -> PropensityModel:
        contract, labels = self.contract, self.dataset.labels[:rows]
        if learns and contract.learns:
            return PropensityModel(self.encoder, self._booster(rows), Calibrator(), self._layer(rows, lag))
        edges = calibration_edges(rows, contract.evaluation.refit_every, contract.calibration.rows)
        margin = out_of_time_margins(self._learner, self.matrix[:rows], labels, edges, workers=1)
        calibrator = calibrate(margin, labels, contract.calibration)
        return PropensityModel(self.encoder, self._booster(rows), calibrator)

    def fits(self, rows: int, learns: bool) -> int:
        """Boosters that such a training fits: its own, and without a layer those that it is calibrated by."""
        contract = self.contract
        if learns and contract.learns:
            return 1
        return 1 + len(calibration_edges(rows, contract.evaluation.refit_every, contract.calibration.rows))

    def _booster(self, rows: int) -> xgb.Booster:
        return self._learner.booster(self.matrix[:rows], self.dataset.labels[:rows])

    def _layer(self, rows: int, lag: int) -> Layer:
        """The layer of a training on the first `rows` rows, kept like the boosters."""
        path = self.directory / self._layer_key / f"{rows}-{lag}.json"
        if not path.exists():
            layer = first_layer(self.contract, self.matrix[:rows], self.dataset.labels[:rows], lag)
            assert layer is not None
            _keep(path, layer.to_json().encode())
        return Layer.from_json(path.read_text("utf-8"))

    def reference(self, model: PropensityModel, rows: int, name: str) -> Reference:
        """What a bundle of this model, trained on the first `rows` rows, is watched by."""
        trees, matrix, margin = self._reference(rows)
        log_odds = model.calibrator.log_odds(margin)
        propensity = expit(log_odds if model.layer is None else model.layer.mixed(log_odds, matrix))
        return _Rescored(trees.columns, trees.watch, trees.frame, propensity, name=name, trees=trees)

    @cached_property
    def _reference(self) -> Callable[[int], tuple[Reference, np.ndarray, np.ndarray]]:
        return lru_cache(_KEPT_REFERENCES)(self._uncalibrated_reference)

    def _uncalibrated_reference(self, rows: int) -> tuple[Reference, np.ndarray, np.ndarray]:
        """The reference of the trees of the first `rows` rows, with encoded rows and margins, as of `at_mix`."""
        places, watch = reference_places(rows), Watch.of(self.contract)
        booster = self._learner.booster(self.matrix[:rows], self.dataset.labels[:rows])
        frame = self.frame.iloc[places]
        unscored = Reference(watched_columns(self.contract), watch, frame, np.zeros(len(frame)))
        matrix = self.encoder.encode(at_reference_offers(unscored, frame, seed=MIX_SEED), threads=1)
        margin = margins(booster, matrix)
        return replace(unscored, propensity=expit(margin.astype(float))), matrix, margin

    @cached_property
    def _learner(self) -> "_KeptTrees":
        kinds = tuple(self.encoder.feature_types)
        return _KeptTrees(BoostedTrees(self.contract.model, kinds, self.seed), self.directory / self._key)

    @cached_property
    def _key(self) -> str:
        """What a booster depends on, but for the number of rows."""
        return self._digest([self.contract.model.model_dump(), self.seed, libraries()])

    @cached_property
    def _layer_key(self) -> str:
        """What a layer depends on, but for the number of rows."""
        return self._digest(
            ["layer", inspect.getsource(layer_module), self.contract.dynamics.model_dump(), libraries()]
        )

    def _digest(self, identity: list[Any]) -> str:
        identity = [*identity, self.encoder.to_json(), self.dataset.fingerprint(self.contract)]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class _Rescored(Reference):
    """The reference of trees under another calibrator or layer: what is known of the columns stays as it was."""

    trees: Reference = field(kw_only=True)

    @cached_property
    def known(self) -> dict[str, Known]:
        return self.trees.known | {SCORE: Known.of(WatchedColumn(SCORE, "number"), self.propensity)}

    def noise(self, column: str, rows: int) -> float:
        return super().noise(column, rows) if column == SCORE else self.trees.noise(column, rows)


@dataclass(frozen=True)
class _KeptTrees:
    """A learner whose boosters are kept: the rows it is given are always the first of the same data set."""

    learner: BoostedTrees
    directory: Path

    def fit(self, matrix: np.ndarray, labels: np.ndarray) -> Margin:
        booster = self.booster(matrix, labels)
        return lambda rows: margins(booster, rows)

    def booster(self, matrix: np.ndarray, labels: np.ndarray) -> xgb.Booster:
        path = self.directory / f"{len(labels)}.ubj"
        if not path.exists():
            _keep(path, self.learner.booster(matrix, labels).save_raw("ubj"))
        return _loaded(path)


def _keep(path: Path, content: bytes | bytearray) -> None:
    """Put a file in place whole: another process may be looking for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).rename(path)


@lru_cache(maxsize=_KEPT)
def _loaded(path: Path) -> xgb.Booster:
    # Replays run side by side: threads of their own would only wait for each other.
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(path.read_bytes()))
    return booster


@dataclass(frozen=True)
class Serving:
    """The model that serves: trained at which row and on how many, how many its layer has learnt, its reference.

    `before` are the propensities that it gave, when it was new, to rows whose labels were not known yet.
    """

    model: PropensityModel
    reference: Reference | None
    trained_at: int
    rows: int
    learnt: int
    before: np.ndarray


@dataclass(frozen=True)
class Look:
    """What was known before row `at` was scored, and what was done then."""

    at: int
    signals: Signals
    action: Action


@dataclass
class Replay:
    """One policy's way through history.

    Attributes
    ----------
    start : the first row that is scored
    delay : rows after which a label is known
    propensity : ndarray, shape (n_rows,), as given at the time; NaN before `start`
    looks : of a policy that looks, one for each whole window that a model's trees have scored
    """

    history: History
    policy: Schedule
    start: int
    delay: int = 0
    propensity: np.ndarray = field(init=False)
    looks: list[Look] = field(init=False, default_factory=list)
    retrained: list[int] = field(init=False, default_factory=list)
    fits: int = field(init=False, default=0)
    refused: list[int] = field(init=False, default_factory=list)
    updated: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.propensity = np.full(len(self.history.dataset), np.nan)
        self._watch = Watch.of(self.history.contract)
        self._streak = Streak(self._watch)
        self._step = gcd(self._watch.window, self.history.contract.evaluation.refit_every)
        self._settings = self.history.contract.retraining

    def run(self) -> "Replay":
        """Score all rows, block by block; between blocks the model may be changed."""
        self._tried_at = self.start
        serving = self._trained(self.start)
        for at in range(self.start, len(self.propensity), self._step):
            if at > self.start:
                serving = self._changed(serving, at)
            block = slice(at, at + self._step)
            self.propensity[block] = expit(serving.model.encoded_margin(self.history.matrix[block]))
        return self

    def _changed(self, serving: Serving, at: int) -> Serving:
        if self._action(serving, at) == "retrain":
            self._tried_at = at
            if self._accepted(at):
                self.retrained.append(at)
                return self._trained(at)
            self.refused.append(at)
        if serving.model.layer is not None and at - self.delay - serving.learnt >= self._watch.window:
            self.updated.append(at)
            return self._updated(serving, at)
        return serving

    def _action(self, serving: Serving, at: int) -> Action:
        whole = (at - serving.trained_at) % self._watch.window == 0
        if not (self.policy.looks and whole):
            return "retrain" if self._due(serving, at) else "none"
        signals = self._look(serving, at)
        if self._due(serving, at) or self._alarmed(signals):
            action: Action = "retrain"
        elif self.policy.trigger == "two of three":
            action = verdict.decide(signals, self._settings).action
        else:
            action = "none"
        self.looks.append(Look(at, signals, action))
        return action

    def _due(self, serving: Serving, at: int) -> bool:
        """Whether the calendar asks for a training."""
        periods, policy = self.history.dataset.periods, self.policy
        if policy.trigger == "rows":
            return at - self._tried_at >= policy.every
        return bool(policy.trigger == "month" and periods[at - 1] != periods[self._tried_at - 1])

    def _alarmed(self, signals: Signals) -> bool:
        """Whether drift alone asks for a training."""
        drifted = self.policy.trigger == "drift" and bool(signals.data or signals.score)
        ready = signals.labels >= self._settings.labels and signals.since_training >= self._settings.cool_down
        return drifted and ready

    def _look(self, serving: Serving, at: int) -> Signals:
        self._streak = self._streak.after(self._examined(serving, at))
        # Rows that the trees have not seen: as they were scored, or would have been by the new model.
        span = slice(serving.rows, at - self.delay)
        labels = self.history.dataset.labels[span]
        propensity = np.concatenate([serving.before, self.propensity[serving.trained_at : at]])[: len(labels)]
        performance = judge(labels, propensity, self._settings)
        lasting = at - serving.trained_at >= self._watch.window * self._watch.consecutive
        alarms = self._streak.signals
        return Signals(
            data=alarms["data"] if lasting else None,
            score=alarms["score"] or alarms["rate"] if lasting else None,
            performance=performance.breached,
            ranks_hold=performance.ranks_hold,
            labels=at - self.delay - serving.rows,
            since_training=at - self._tried_at,
            unlearnt=None if serving.model.layer is None else at - self.delay - serving.learnt,
        )

    def _examined(self, serving: Serving, at: int) -> WindowReport:
        """Hold the newest window against the reference of the model that scored it."""
        assert serving.reference is not None
        frame = self.history.frame.iloc[at - self._watch.window : at]
        offered = at_reference_offers(serving.reference, frame)
        return examine(serving.reference, frame, serving.model.propensity(offered, threads=1))

    def _trained(self, at: int) -> Serving:
        rows = at - self.delay
        model = self._fitted(rows)
        before = expit(model.encoded_margin(self.history.matrix[rows:at]))
        return Serving(model, self._reference(model, rows, at), at, rows, rows, before)

    def _accepted(self, at: int) -> bool:
        """Whether the gate lets a new model take the place of what serves, by the newest rows with known labels.

        The new model has learnt these rows, so models of its kind stand for it, each trained on the rows before its
        part of them; against them stands what was served.
        """
        end, challenge = at - self.delay, self.history.contract.challenge
        first = max(self.start, end - challenge.rows)
        if end <= first:
            return False
        here, dataset = slice(first, end), self.history.dataset
        twin = np.concatenate(
            [self._prequential(edge, end) for edge in range(first, end, self.history.contract.evaluation.refit_every)]
        )
        duel = metrics.duel(dataset.labels[here], dataset.periods[here], twin, self.propensity[here])
        return all(rule.passed for rule in gate.challenge(duel, self.history.contract))

    def _prequential(self, at: int, end: int) -> np.ndarray:
        """Propensities that a model trained at row `at` would have given to the rows from there on, up to `end`."""
        model, end = self._fitted(at - self.delay), min(at + self.history.contract.evaluation.refit_every, end)
        parts = []
        for start in range(at, end, self._watch.window):
            if start > at:
                model = self._taught(model, slice(start - self._watch.window - self.delay, start - self.delay))
            block = slice(start, min(start + self._watch.window, end))
            parts.append(expit(model.encoded_margin(self.history.matrix[block])))
        return np.concatenate(parts)

    def _fitted(self, rows: int) -> PropensityModel:
        """A model trained on the first `rows` rows; counts the boosters that it takes."""
        self.fits += self.history.fits(rows, self.policy.learns)
        return self.history.train(rows, self.policy.learns, self.delay)

    def _taught(self, model: PropensityModel, rows: slice) -> PropensityModel:
        """The model after its layer, where it has one, has learnt these rows."""
        if model.layer is None:
            return model
        matrix, labels = self.history.matrix[rows], self.history.dataset.labels[rows]
        return replace(model, layer=learn(model.layer, matrix, labels, model.tree_margin(matrix), self.delay))

    def _updated(self, serving: Serving, at: int) -> Serving:
        model = self._taught(serving.model, slice(serving.learnt, at - self.delay))
        reference = self._reference(model, serving.rows, serving.trained_at)
        return replace(serving, model=model, reference=reference, learnt=at - self.delay)

    def _reference(self, model: PropensityModel, rows: int, trained_at: int) -> Reference | None:
        # Named by its trees: an update leaves the rows as far from the reference as they were.
        return self.history.reference(model, rows, name=f"{trained_at}") if self.policy.looks else None
