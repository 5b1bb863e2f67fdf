"""The loop over history: rows in time order are scored, logged, watched and learnt from, as they would have been.

A replay uses the functions that the product uses, on rows and labels that were known at the time: at row t the rows
before t, and the labels of rows before t - delay.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import gcd
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

import numpy as np
import pandas as pd
import xgboost as xgb
from scipy.special import expit

from offers.bundle import recalibration
from offers.bundle.provenance import libraries
from offers.bundle.writing import reference_places
from offers.contract.contract import Contract
from offers.data.dataset import Dataset, origin
from offers.drift.examination import MIX_SEED, at_reference_offers, examine
from offers.drift.reference import SCORE, Known, Reference, Watch, WatchedColumn, watched_columns
from offers.drift.streak import Streak
from offers.drift.window import WindowReport
from offers.model.encoder import Encoder
from offers.model.propensity import PropensityModel, margins
from offers.monitoring import two_of_three as verdict
from offers.monitoring.promise import judge
from offers.monitoring.two_of_three import Action, Signals
from offers.training.calibration import calibrate, calibration_edges
from offers.training.learners import BoostedTrees, Margin, out_of_time_margins

Trigger = Literal["never", "rows", "month", "drift", "two of three"]

_KEPT = 32


@dataclass(frozen=True)
class Policy:
    """When a model is trained again: `every` rows where the trigger is rows; and whether it is recalibrated between."""

    trigger: Trigger
    recalibrates: bool
    every: int = 0

    @property
    def schedule(self) -> str:
        return f"every {self.every} rows" if self.trigger == "rows" else _NAMES.get(self.trigger, self.trigger)

    @property
    def name(self) -> str:
        return self.schedule + (" + recalibration" if self.recalibrates else "")

    @property
    def looks(self) -> bool:
        """Whether what it does depends on signals."""
        return self.recalibrates or self.trigger in ("drift", "two of three")


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
    def train(self) -> Callable[[int], PropensityModel]:
        """What `learners.train` makes of so many rows, the first ones, with boosters from the directory."""
        return lru_cache(_KEPT)(self._train)

    def _train(self, rows: int) -> PropensityModel:
        contract, labels = self.contract, self.dataset.labels[:rows]
        edges = calibration_edges(rows, contract.evaluation.refit_every, contract.calibration.rows)
        margin = out_of_time_margins(self._learner, self.matrix[:rows], labels, edges, workers=1)
        calibrator = calibrate(margin, labels, contract.calibration)
        return PropensityModel(self.encoder, self._learner.booster(self.matrix[:rows], labels), calibrator)

    def reference(self, model: PropensityModel, rows: int, name: str) -> Reference:
        """What a bundle of this model, trained on the first `rows` rows, is watched by."""
        trees, margin = self._reference(rows)
        propensity = model.calibrator(margin)
        return _Rescored(trees.columns, trees.watch, trees.frame, propensity, name=name, trees=trees)

    @cached_property
    def _reference(self) -> Callable[[int], tuple[Reference, np.ndarray]]:
        return lru_cache(_KEPT)(self._uncalibrated_reference)

    def _uncalibrated_reference(self, rows: int) -> tuple[Reference, np.ndarray]:
        """The reference of the trees that were trained on the first `rows` rows, with its margins, as of `at_mix`."""
        places, watch = reference_places(rows), Watch.of(self.contract)
        booster = self._learner.booster(self.matrix[:rows], self.dataset.labels[:rows])
        frame = self.frame.iloc[places]
        unscored = Reference(watched_columns(self.contract), watch, frame, np.zeros(len(frame)))
        margin = margins(booster, self.encoder.encode(at_reference_offers(unscored, frame, seed=MIX_SEED), threads=1))
        return replace(unscored, propensity=expit(margin.astype(float))), margin

    @cached_property
    def _learner(self) -> "_KeptTrees":
        kinds = tuple(self.encoder.feature_types)
        return _KeptTrees(BoostedTrees(self.contract.model, kinds, self.seed), self.directory / self._key)

    @property
    def _key(self) -> str:
        """What a booster depends on, but for the number of rows."""
        identity = [
            self.contract.model.model_dump(),
            self.encoder.to_json(),
            self.dataset.fingerprint(self.contract),
            self.seed,
            libraries(),
        ]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class _Rescored(Reference):
    """The reference of trees under another calibrator: what is known of the columns stays as it was."""

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
            self._keep(self.learner.booster(matrix, labels), path)
        return _loaded(path)

    def _keep(self, booster: xgb.Booster, path: Path) -> None:
        """Put it in place whole: another process may be looking for it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self.directory, delete=False) as file:
            file.write(booster.save_raw("ubj"))
        Path(file.name).rename(path)


@lru_cache(maxsize=_KEPT)
def _loaded(path: Path) -> xgb.Booster:
    # Replays run side by side: threads of their own would only wait for each other.
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(path.read_bytes()))
    return booster


@dataclass(frozen=True)
class Serving:
    """The model that serves: since which row, trained at which and on how many, and its reference."""

    model: PropensityModel
    reference: Reference | None
    since: int
    trained_at: int
    rows: int


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
    policy: Policy
    start: int
    delay: int = 0
    propensity: np.ndarray = field(init=False)
    looks: list[Look] = field(init=False, default_factory=list)
    retrained: list[int] = field(init=False, default_factory=list)
    recalibrated: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.propensity = np.full(len(self.history.dataset), np.nan)
        self._watch = Watch.of(self.history.contract)
        self._streak = Streak(self._watch)
        self._step = gcd(self._watch.window, self.history.contract.evaluation.refit_every)
        self._settings = self.history.contract.retraining.model_copy(update={"recalibrate": self.policy.recalibrates})

    def run(self) -> "Replay":
        """Score all rows, block by block; between blocks the model may be changed."""
        serving = self._trained(self.start)
        for at in range(self.start, len(self.propensity), self._step):
            if at > self.start:
                serving = self._changed(serving, at)
            block = slice(at, at + self._step)
            self.propensity[block] = serving.model.calibrator(self._margin(serving, block))
        return self

    def _changed(self, serving: Serving, at: int) -> Serving:
        action = self._action(serving, at)
        if action == "retrain":
            self.retrained.append(at)
            return self._trained(at)
        if action == "recalibrate":
            self.recalibrated.append(at)
            return self._recalibrated(serving, at)
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
            # This policy trains by the calendar or by drift alone. since_training=0 keeps the rule from asking for
            # training, so it answers 'recalibrate' or 'none'.
            action = verdict.decide(replace(signals, since_training=0), self._settings).action
        self.looks.append(Look(at, signals, action))
        return action

    def _due(self, serving: Serving, at: int) -> bool:
        """Whether the calendar asks for a training."""
        periods, policy = self.history.dataset.periods, self.policy
        if policy.trigger == "rows":
            return at - serving.trained_at >= policy.every
        return bool(policy.trigger == "month" and periods[at - 1] != periods[serving.trained_at - 1])

    def _alarmed(self, signals: Signals) -> bool:
        """Whether drift alone asks for a training."""
        drifted = self.policy.trigger == "drift" and bool(signals.data or signals.score)
        ready = signals.labels >= self._settings.labels and signals.since_training >= self._settings.cool_down
        return drifted and ready

    def _look(self, serving: Serving, at: int) -> Signals:
        self._streak = self._streak.after(self._examined(serving, at))
        # Labels that came to be known since the model was made; older rows among them were scored by the one before.
        known = slice(serving.since - self.delay, at - self.delay)
        labels, propensity = self.history.dataset.labels[known], serving.model.calibrator(self._margin(serving, known))
        performance = judge(labels, propensity, self._settings)
        lasting = at - serving.trained_at >= self._watch.window * self._watch.consecutive
        alarms = self._streak.signals
        return Signals(
            data=alarms["data"] if lasting else None,
            score=alarms["score"] or alarms["rate"] if lasting else None,
            performance=performance.breached,
            ranks_hold=performance.ranks_hold,
            labels=at - self.delay - serving.rows,
            since_training=at - serving.trained_at,
            recalibrated=serving.since > serving.trained_at,
        )

    def _examined(self, serving: Serving, at: int) -> WindowReport:
        """Hold the newest window against the reference of the model that scored it."""
        assert serving.reference is not None
        frame = self.history.frame.iloc[at - self._watch.window : at]
        offered = at_reference_offers(serving.reference, frame)
        return examine(serving.reference, frame, serving.model.propensity(offered, threads=1))

    def _trained(self, at: int) -> Serving:
        rows = at - self.delay
        model = self.history.train(rows)
        return self._served(model, since=at, trained_at=at, rows=rows)

    def _recalibrated(self, serving: Serving, at: int) -> Serving:
        known = slice(serving.rows, at - self.delay)
        margin, labels = self._margin(serving, known), self.history.dataset.labels[known]
        calibrator = recalibration.refit(serving.model.calibrator, margin, labels, self._settings)
        model = replace(serving.model, calibrator=calibrator)
        return self._served(model, since=at, trained_at=serving.trained_at, rows=serving.rows)

    def _served(self, model: PropensityModel, since: int, trained_at: int, rows: int) -> Serving:
        # A recalibrated model keeps its trees' name, so the drift streak goes on: recalibration does not change how
        # far the rows are from the reference.
        reference = self.history.reference(model, rows, name=f"{trained_at}") if self.policy.looks else None
        return Serving(model, reference, since, trained_at, rows)

    def _margin(self, serving: Serving, rows: slice) -> np.ndarray:
        return margins(serving.model.booster, self.history.matrix[rows])
