"""Replays the loop over history: rows in time order are scored, watched and learnt from, as they would have been.

A replay calls the product's own functions, and gives them only what was known at the time: at row t the rows before t,
and the labels of rows before t - delay.
"""

from dataclasses import dataclass, field, replace
from math import gcd

import numpy as np
from scipy.special import expit

from offers.backtest.history import History
from offers.backtest.schedule import Schedule
from offers.drift.examination import at_reference_offers, examine
from offers.drift.reference import Reference, Watch
from offers.drift.streak import Streak
from offers.drift.window import WindowReport
from offers.evaluation import gate, metrics
from offers.model.propensity import PropensityModel
from offers.monitoring import two_of_three as verdict
from offers.monitoring.promise import judge
from offers.monitoring.two_of_three import Action, Signals
from offers.training.dynamics import learn


@dataclass(frozen=True)
class Serving:
    """The model that serves, and its history.

    It was trained at row `trained_at` on the first `rows` rows, and its layer has learnt the first `learnt` rows.
    `before` are its propensities for the rows between `rows` and `trained_at`, whose labels were not known yet.
    """

    model: PropensityModel
    reference: Reference | None
    trained_at: int
    rows: int
    learnt: int
    before: np.ndarray


@dataclass(frozen=True)
class Look:
    """The signals before row `at` was scored, and the action that they led to."""

    at: int
    signals: Signals
    action: Action


@dataclass
class Replay:
    """The replay of one policy.

    Attributes
    ----------
    start : the first row that is scored
    delay : rows after which a label is known
    propensity : ndarray, shape (n_rows,), given by the model that served at the time; NaN before `start`
    looks : one for each whole window that a model's trees have scored; empty for a policy that ignores signals
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
        """Score all rows, block by block; between blocks the policy may change the model."""
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
        # The trees have not seen these rows. Their propensities are the ones given at the time; for rows from before
        # the training they are the new model's.
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
        """Compare the newest window with the reference of the model that scored it."""
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
        """Whether the gate lets a new model replace the serving one, judged on the newest rows with known labels.

        The new model has learnt these rows, so it can't be judged on them itself. Models of the same kind stand in for
        it: each is trained on the rows before the part that it scores. They meet the propensities that were served.
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
        """Score the rows from `at` up to `end`, or up to the next refit, as a model trained at row `at` would have."""
        model, end = self._fitted(at - self.delay), min(at + self.history.contract.evaluation.refit_every, end)
        parts = []
        for start in range(at, end, self._watch.window):
            if start > at:
                model = self._taught(model, slice(start - self._watch.window - self.delay, start - self.delay))
            block = slice(start, min(start + self._watch.window, end))
            parts.append(expit(model.encoded_margin(self.history.matrix[block])))
        return np.concatenate(parts)

    def _fitted(self, rows: int) -> PropensityModel:
        """Train a model on the first `rows` rows, and count the boosters that this fits."""
        self.fits += self.history.fits(rows, self.policy.learns)
        return self.history.train(rows, self.policy.learns, self.delay)

    def _taught(self, model: PropensityModel, rows: slice) -> PropensityModel:
        """Return the model with these rows learnt by its layer; a model without a layer stays the same."""
        if model.layer is None:
            return model
        matrix, labels = self.history.matrix[rows], self.history.dataset.labels[rows]
        return replace(model, layer=learn(model.layer, matrix, labels, model.tree_margin(matrix), self.delay))

    def _updated(self, serving: Serving, at: int) -> Serving:
        model = self._taught(serving.model, slice(serving.learnt, at - self.delay))
        reference = self._reference(model, serving.rows, serving.trained_at)
        return replace(serving, model=model, reference=reference, learnt=at - self.delay)

    def _reference(self, model: PropensityModel, rows: int, trained_at: int) -> Reference | None:
        # The name stands for the trees, so that the drift streak goes on: an update of the layer does not change how
        # far the rows are from the reference.
        return self.history.reference(model, rows, name=f"{trained_at}") if self.policy.looks else None
