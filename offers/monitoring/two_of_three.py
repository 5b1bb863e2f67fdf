"""Whether a model is left alone, updated from labels or trained again: two of three signals decide.

The signals are data drift, score drift and performance.

- One signal is breached and ranks hold: nothing happens, unless the signal is performance. Then the layer is updated,
  if labels have matured that it has not learnt. Drift alone does no harm while labels are what the scores promise.
- Two are breached, or ranks are lost: the model is trained again.
- Retraining waits for its cool-down and for matured labels. If labels show no harm it waits longer, by `patience`.
  Meanwhile the layer is updated.

Independently of this a layer is updated with every batch of labels. A signal that can't be judged counts as not
breached, and the verdict says so. Where labels are late, drift of data and of scores together cause a retraining.
"""

from dataclasses import dataclass
from typing import Literal

from offers.contract.sections import Retraining

Action = Literal["none", "update", "retrain"]


@dataclass(frozen=True)
class Signals:
    """The signals about a serving model, and the labels that a training would need.

    Attributes
    ----------
    data, score : whether columns, or propensities, have drifted from the training rows; None where not known
    performance : whether labels contradict the scores given at the time; None where they are too few
    ranks_hold : whether acceptances are ranked above refusals as well as the scores promise
    labels : matured labels that the model was not trained on
    since_training : rows scored since it was trained
    unlearnt : matured labels that its layer has not learnt; None where it has no layer
    """

    data: bool | None
    score: bool | None
    performance: bool | None
    ranks_hold: bool | None
    labels: int
    since_training: int
    unlearnt: int | None

    @property
    def breached(self) -> tuple[str, ...]:
        return tuple(name for name, value in self._named() if value)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(name for name, value in self._named() if value is None)

    def _named(self) -> tuple[tuple[str, bool | None], ...]:
        return (("data drift", self.data), ("score drift", self.score), ("performance", self.performance))


@dataclass(frozen=True)
class RetrainingVerdict:
    """The action for the model, and its reasons in sentences."""

    action: Action
    reasons: tuple[str, ...]


def decide(signals: Signals, settings: Retraining) -> RetrainingVerdict:
    """Choose the cheapest answer that the signals allow."""
    breached, unknown, loss = signals.breached, signals.unknown, signals.ranks_hold is False
    reasons: tuple[str, ...] = (f"breached: {', '.join(breached)}" if breached else "nothing is breached",)
    if unknown:
        reasons += (f"too little is known to judge {', '.join(unknown)}",)
    if loss:
        reasons += ("ranks are lost, which an update can't be trusted to mend",)
    if not breached:
        return RetrainingVerdict("none", reasons)
    if len(breached) < 2 and not loss:
        return _update(signals, settings, reasons)
    if obstacle := _obstacle(signals, settings):
        return _update(signals, settings, (*reasons, obstacle))
    return RetrainingVerdict("retrain", reasons)


def _update(signals: Signals, settings: Retraining, reasons: tuple[str, ...]) -> RetrainingVerdict:
    """Decide for an update if labels show harm and the layer has new labels to learn."""
    if signals.performance is None:
        return RetrainingVerdict("none", (*reasons, "an update waits for matured labels of this model's scores"))
    if not signals.performance:
        return RetrainingVerdict("none", (*reasons, "labels are what the scores promise: there is nothing to mend"))
    if signals.unlearnt is None:
        return RetrainingVerdict("none", (*reasons, "the model has no layer that an update could teach"))
    if signals.unlearnt < settings.labels:
        few = f"an update waits for {settings.labels} labels new to the layer, there are {signals.unlearnt}"
        return RetrainingVerdict("none", (*reasons, few))
    return RetrainingVerdict("update", reasons)


def _obstacle(signals: Signals, settings: Retraining) -> str:
    """Explain why the model can't be trained now; empty if it can."""
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
