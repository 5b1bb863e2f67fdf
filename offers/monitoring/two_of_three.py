"""Whether a model is left alone, recalibrated or trained again: two of three signals decide.

The signals are data drift, score drift and performance.

- One is breached and ranks hold: recalibration, which mends the level of the scores and needs few labels.
- Two are breached, or ranks are lost: retraining. A model that can be recalibrated and has not been yet is recalibrated
  first: when a change is seen, few labels are of the time after it, and a training would learn little from them.
- Retraining waits for its cool-down and for matured labels. Where labels show no harm it waits longer, as patience
  says. Meanwhile scores are recalibrated: their level, at least, can be mended.

A signal that can't be judged counts as not breached, and the verdict says so.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from offers.contract.contract import Retraining

Action = Literal["none", "recalibrate", "retrain"]


@dataclass(frozen=True)
class Signals:
    """What is known of a serving model.

    Attributes
    ----------
    data, score : whether columns, or propensities, have drifted from the rows of the training; None is not known
    performance : whether labels contradict the scores given at the time; None where they are too few
    ranks_hold : whether acceptances are ranked above refusals as well as the scores promise
    labels : matured labels that the model was not trained on
    since_training : rows scored since it was trained
    recalibrated : whether it has been recalibrated since
    """

    data: bool | None
    score: bool | None
    performance: bool | None
    ranks_hold: bool | None
    labels: int
    since_training: int
    recalibrated: bool

    @property
    def breached(self) -> tuple[str, ...]:
        return tuple(name for name, value in self._named() if value)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(name for name, value in self._named() if value is None)

    def _named(self) -> tuple[tuple[str, bool | None], ...]:
        return (("data drift", self.data), ("score drift", self.score), ("performance", self.performance))


@dataclass(frozen=True)
class Verdict:
    """What to do with the model, and why, in sentences."""

    action: Action
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Performance:
    """What matured labels say of the scores given at the time.

    `level` is the distance of the number of acceptances from what the propensities promise, `ranks` that of the AUC,
    both in standard deviations; None where labels are too few.
    """

    labels: int
    breached: bool | None
    ranks_hold: bool | None
    level: float | None
    ranks: float | None
    reasons: tuple[str, ...]


def decide(signals: Signals, settings: Retraining) -> Verdict:
    """Choose the cheapest answer that the signals allow."""
    breached, unknown, lost = signals.breached, signals.unknown, signals.ranks_hold is False
    found: tuple[str, ...] = (f"breached: {', '.join(breached)}" if breached else "nothing is breached",)
    if unknown:
        found += (f"too little is known to judge {', '.join(unknown)}",)
    if lost:
        found += ("ranks are lost, which recalibration can't mend",)
    if not breached:
        return Verdict("none", found)
    if len(breached) < 2 and not lost:
        return _recalibration(signals, settings, found)
    if obstacle := _obstacle(signals, settings):
        return _recalibration(signals, settings, (*found, obstacle))
    if not lost and not signals.recalibrated:
        cheaper = _recalibration(signals, settings, (*found, "recalibration comes first"))
        return cheaper if cheaper.action == "recalibrate" else Verdict("retrain", found)
    return Verdict("retrain", found)


def judge(labels: np.ndarray, propensity: np.ndarray, settings: Retraining) -> Performance:
    """Hold matured labels against what the propensities themselves promise.

    If the propensities are right, acceptances number their sum with variance sum p (1 - p), and the AUC is the share
    of pairs in order, each weighted by the chance p (1 - q) that it is an acceptance and a refusal. So a model is
    measured by the rows that it had to score: an AUC of other rows, as the gate saw them, is no yardstick where the mix
    has changed.

    Parameters
    ----------
    labels : ndarray of 0/1, shape (n,), matured labels in time order; the newest `settings.newest` are used
    propensity : ndarray, shape (n,), in (0, 1), as given at the time, by the model that serves now
    """
    labels, propensity = labels[-settings.newest :].astype(float), propensity[-settings.newest :]
    if len(labels) < settings.labels:
        few = f"{len(labels)} matured labels, {settings.labels} are needed to judge performance"
        return Performance(len(labels), None, None, None, None, (few,))
    level = _level(labels, propensity)
    enough = min(labels.sum(), len(labels) - labels.sum()) >= settings.outcomes
    ranks = _ranks(labels, propensity) if enough else None
    holds = None if ranks is None else bool(ranks >= -settings.surprise)
    off = bool(abs(level) > settings.surprise)
    return Performance(
        labels=len(labels),
        breached=off or holds is False,
        ranks_hold=holds,
        level=level,
        ranks=ranks,
        reasons=tuple(_told(labels, propensity, level if off else None, ranks if holds is False else None)),
    )


def promised_auc(propensity: np.ndarray) -> float:
    """AUC to expect where labels are drawn by the propensities, shape (n,), in (0, 1)."""
    rising = np.sort(propensity)
    chances = (len(rising) - 1) * rising.sum() - (rising.sum() ** 2 - (rising**2).sum())
    places = np.arange(len(rising))
    refusals_below = places - (np.cumsum(rising) - rising)
    return float(rising @ refusals_below / chances) if chances > 0 else 0.5


def _recalibration(signals: Signals, settings: Retraining, found: tuple[str, ...]) -> Verdict:
    if not settings.recalibrate:
        return Verdict("none", (*found, "the contract does without recalibration"))
    if signals.performance is None:
        return Verdict("none", (*found, "recalibration waits for matured labels of this model's scores"))
    return Verdict("recalibrate", found)


def _obstacle(signals: Signals, settings: Retraining) -> str:
    """Why the model can't be trained now, or nothing."""
    if signals.labels < settings.labels:
        return f"retraining waits for {settings.labels} new matured labels, there are {signals.labels}"
    wait, why = (
        (settings.cool_down, "as labels show harm")
        if signals.performance
        else (settings.patience, "as labels show no harm")
    )
    if signals.since_training < wait:
        return f"retraining waits until {wait} rows are scored since the last, {why}; it is {signals.since_training}"
    return ""


def _level(labels: np.ndarray, propensity: np.ndarray) -> float:
    return float((labels - propensity).sum() / np.sqrt((propensity * (1 - propensity)).sum()))


def _ranks(labels: np.ndarray, propensity: np.ndarray) -> float:
    """Distance of the AUC from the promised one, by the standard error of Hanley and McNeil (1982)."""
    promised, positives = promised_auc(propensity), labels.sum()
    error = _auc_error(promised, positives, len(labels) - positives)
    return (_auc(labels, propensity) - promised) / error


def _auc(labels: np.ndarray, propensity: np.ndarray) -> float:
    positives = labels.sum()
    above = rankdata(propensity) @ labels - positives * (positives + 1) / 2
    return float(above / (positives * (len(labels) - positives)))


def _auc_error(auc: float, positives: float, negatives: float) -> float:
    one, other = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (one - auc**2) + (negatives - 1) * (other - auc**2)
    return float(np.sqrt(spread / (positives * negatives)))


def _told(labels: np.ndarray, propensity: np.ndarray, level: float | None, ranks: float | None) -> list[str]:
    told = []
    if level is not None:
        shares = f"{labels.mean():.1%} of {len(labels)} accepted, {propensity.mean():.1%} were promised"
        told.append(f"{shares}: {abs(level):.1f} standard deviations")
    if ranks is not None:
        aucs = f"AUC {_auc(labels, propensity):.2f}, {promised_auc(propensity):.2f} was promised"
        told.append(f"{aucs}: {abs(ranks):.1f} standard deviations")
    return told or ["labels are what the scores promise"]
