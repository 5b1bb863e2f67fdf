"""Replays the loop over history: rows in time order are scored, watched and learnt from, as they would have been.

A replay calls the product's own functions, and gives them only what was known at the time: at row t the rows before t,
and the labels that its clock says are known.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import gcd

import numpy as np
from scipy.special import expit

from offers.backtest import candidate
from offers.backtest.baselines import trailing_rate
from offers.backtest.clock import AT_ONCE, Clock, Delay
from offers.backtest.history import History
from offers.backtest.schedule import Schedule
from offers.drift.examination import at_reference_offers, examine
from offers.drift.reference import Reference, Watch
from offers.drift.streak import Streak
from offers.drift.window import WindowReport
from offers.evaluation import metrics
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
    delay : how late labels are
    batch : new labels that the layer waits for; 0 for as many as the contract's window has rows
    propensity : ndarray, shape (n_rows,), given by the model that served at the time; NaN before `start`. Until the
        gate has passed a first model, every customer gets the rate of the newest known labels
    looks : one for each whole window that a model's trees have scored; empty for a policy that ignores signals
    """

    history: History
    policy: Schedule
    start: int
    delay: Delay = AT_ONCE
    batch: int = 0
    propensity: np.ndarray = field(init=False)
    looks: list[Look] = field(init=False, default_factory=list)
    retrained: list[int] = field(init=False, default_factory=list)
    fits: int = field(init=False, default=0)
    refused: list[int] = field(init=False, default_factory=list)
    live_from: int | None = field(init=False, default=None)
    updated: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.propensity = np.full(len(self.history.dataset), np.nan)
        self._clock = Clock(self.history, self.delay)
        self._watch = Watch.of(self.history.contract)
        self._streak = Streak(self._watch)
        self._batch = self.batch or self._watch.window
        self._settings = self.history.contract.retraining

    def run(self) -> "Replay":
        """Score all rows, block by block; between blocks the policy may change the model."""
        serving = self._first(self.start)
        step = gcd(self._batch, self._watch.window, self.history.contract.evaluation.refit_every)
        moments = self._clock.moments(self.start, step)
        for at, end in pairwise([*moments, len(self.propensity)]):
            if serving is not None and at > self.start:
                serving = self._changed(serving, at)
            elif serving is None and at - self._tried_at >= self._settings.cool_down:
                serving = self._first(at)
            block = slice(at, end)
            if serving is None:
                self.propensity[block] = trailing_rate(self.history.dataset.labels[: self._clock.known(at)])
            else:
                self.propensity[block] = expit(serving.model.encoded_margin(self.history.matrix[block]))
        return self

    def _first(self, at: int) -> Serving | None:
        """The first model, where the gate lets it live; else the rows go on without one."""
        self._tried_at = self._looked_at = at
        if not candidate.lives(self.history, self._clock.known(at), self.policy.learns):
            self.refused.append(at)
            return None
        self.live_from = at
        return self._trained(at)

    def _changed(self, serving: Serving, at: int) -> Serving:
        if self._action(serving, at) == "retrain":
            self._tried_at = at
            if self._accepted(at):
                self.retrained.append(at)
                return self._trained(at)
            self.refused.append(at)
        if serving.model.layer is not None and self._clock.known(at) - serving.learnt >= self._batch:
            updated = self._updated(serving, at)
            (self.refused if updated is None else self.updated).append(at)
            return updated or serving
        return serving

    def _action(self, serving: Serving, at: int) -> Action:
        whole = at - self._looked_at >= self._watch.window
        if not (self.policy.looks and whole):
            return "retrain" if self._due(at) else "none"
        self._looked_at = at
        signals = self._look(serving, at)
        if self._due(at) or self._alarmed(signals):
            action: Action = "retrain"
        elif self.policy.trigger == "two of three":
            action = verdict.decide(signals, self._settings).action
        else:
            action = "none"
        self.looks.append(Look(at, signals, action))
        return action

    def _due(self, at: int) -> bool:
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
        known = self._clock.known(at)
        span = slice(serving.rows, known)
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
            labels=known - serving.rows,
            since_training=at - self._tried_at,
            unlearnt=None if serving.model.layer is None else known - serving.learnt,
        )

    def _examined(self, serving: Serving, at: int) -> WindowReport:
        """Compare the newest window with the reference of the model that scored it."""
        assert serving.reference is not None
        frame = self.history.frame.iloc[at - self._watch.window : at]
        offered = at_reference_offers(serving.reference, frame)
        return examine(serving.reference, frame, serving.model.propensity(offered, threads=1))

    def _trained(self, at: int) -> Serving:
        rows, self._looked_at = self._clock.known(at), at
        model = self._fitted(at)
        before = expit(model.encoded_margin(self.history.matrix[rows:at]))
        return Serving(model, self._reference(model, rows, at), at, rows, rows, before)

    def _accepted(self, at: int) -> bool:
        """Whether the gate lets a new model replace the serving one, judged on the newest rows with known labels.

        The new model has learnt these rows, so it can't be judged on them itself. Models of the same kind stand in for
        it: each is trained on the rows before the part that it scores. They meet the propensities that were served.
        """
        end, challenge = self._clock.known(at), self.history.contract.challenge
        first = max(self.start, end - challenge.rows)
        if end <= first:
            return False
        here, dataset = slice(first, end), self.history.dataset
        twin = np.concatenate(
            [self._prequential(edge, end) for edge in range(first, end, self.history.contract.evaluation.refit_every)]
        )
        duel = metrics.duel(dataset.labels[here], dataset.periods[here], twin, self.propensity[here])
        return candidate.replaces(self.history, end, self.policy.learns, duel, self.propensity)

    def _prequential(self, at: int, end: int) -> np.ndarray:
        """Score the rows from `at` up to `end`, or up to the next refit, as a model trained at row `at` would have."""
        known = self._clock.known
        model, end = self._fitted(at), min(at + self.history.contract.evaluation.refit_every, end)
        parts = []
        for start in range(at, end, self._batch):
            if start > at:
                model = self._taught(model, slice(known(start - self._batch), known(start)), start)
            block = slice(start, min(start + self._batch, end))
            parts.append(expit(model.encoded_margin(self.history.matrix[block])))
        return np.concatenate(parts)

    def _fitted(self, at: int) -> PropensityModel:
        """Train a model on the rows whose labels are known at row `at`, and count the boosters that this fits."""
        rows = self._clock.known(at)
        self.fits += self.history.fits(rows, self.policy.learns)
        return self.history.train(rows, self.policy.learns, at - rows)

    def _taught(self, model: PropensityModel, rows: slice, at: int) -> PropensityModel:
        """Return the model with these rows, known before row `at`, learnt by its layer, if it has one."""
        if model.layer is None or rows.start == rows.stop:
            return model
        matrix, labels = self.history.matrix[rows], self.history.dataset.labels[rows]
        return replace(model, layer=learn(model.layer, matrix, labels, model.tree_margin(matrix), at - rows.stop))

    def _updated(self, serving: Serving, at: int) -> Serving | None:
        """Teach the serving layer the labels that it has not learnt; None where the gate refuses the update."""
        known = self._clock.known(at)
        if not candidate.updates(self.history, serving.model, slice(serving.learnt, known), self._batch):
            return None
        model = self._taught(serving.model, slice(serving.learnt, known), at)
        reference = self._reference(model, serving.rows, serving.trained_at)
        return replace(serving, model=model, reference=reference, learnt=known)

    def _reference(self, model: PropensityModel, rows: int, trained_at: int) -> Reference | None:
        # The name stands for the trees, so that the drift streak goes on: an update of the layer does not change how
        # far the rows are from the reference.
        return self.history.reference(model, rows, name=f"{trained_at}") if self.policy.looks else None
