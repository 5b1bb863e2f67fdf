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

from offers.contract.sections import Retraining

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
