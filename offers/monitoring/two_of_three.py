"""Whether a model is left alone, updated from labels or trained again: two of three signals decide.

The signals are data drift, score drift and performance.

- One is breached and ranks hold: nothing, unless it is performance. Then the layer is updated, where labels have
  matured that it has not learnt. Drift alone is no disease: it harms nobody while labels are what the scores promise.
- Two are breached, or ranks are lost: retraining.
- Retraining waits for its cool-down and for matured labels. Where labels show no harm it waits longer, as patience
  says. Meanwhile the layer is updated.

Apart from this a layer is updated with every batch of labels, whatever the signals are. A signal that can't be judged
counts as not breached, and the verdict says so: where labels are late, drift of data and scores stands for them.
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
    data, score : whether columns, or propensities, have drifted from the rows of the training; None is not known
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
    """What to do with the model, and why, in sentences."""

    action: Action
    reasons: tuple[str, ...]


def decide(signals: Signals, settings: Retraining) -> RetrainingVerdict:
    """Choose the cheapest answer that the signals allow."""
    breached, unknown, lost = signals.breached, signals.unknown, signals.ranks_hold is False
    reasons: tuple[str, ...] = (f"breached: {', '.join(breached)}" if breached else "nothing is breached",)
    if unknown:
        reasons += (f"too little is known to judge {', '.join(unknown)}",)
    if lost:
        reasons += ("ranks are lost, which an update can't be trusted to mend",)
    if not breached:
        return RetrainingVerdict("none", reasons)
    if len(breached) < 2 and not lost:
        return _update(signals, settings, reasons)
    if obstacle := _obstacle(signals, settings):
        return _update(signals, settings, (*reasons, obstacle))
    return RetrainingVerdict("retrain", reasons)


def _update(signals: Signals, settings: Retraining, reasons: tuple[str, ...]) -> RetrainingVerdict:
    """The update, if labels show harm and the layer has new ones to learn from."""
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
    """The reasons why the model can't be trained now; empty if it can."""
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
