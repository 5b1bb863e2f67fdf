"""The results of replays as records, and their means over alignments."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from offers.backtest.baselines import Baseline
from offers.backtest.clock import Delay
from offers.backtest.schedule import Schedule
from offers.evaluation import metrics
from offers.record import Record

CAPACITIES = (0.1, 0.3)


_CONTACTED = 250


@dataclass(frozen=True)
class Case:
    """One replay, or one baseline. Its blocks are shifted by `alignment` rows; labels are known after `delay`.

    The layer learns them by `batch` labels; 0 stands for the contract's window.
    """

    policy: Schedule | Baseline
    alignment: int
    delay: Delay
    batch: int = 0

    @property
    def title(self) -> str:
        """The policy's or baseline's name in the table."""
        return self.policy.name if isinstance(self.policy, Schedule) else self.policy

    @property
    def name(self) -> str:
        words = self.title.replace(" + ", " ").split()
        return "-".join([*words, f"shift-{self.alignment}", f"delay-{self.delay}", f"batch-{self.batch}"])


class BlockFigures(Record):
    """Figures of some rows; an AUC is None where the rows have only one outcome.

    `within` is the AUC within periods. `accepted` counts the acceptances among the contacted customers, where a tenth
    or three tenths of each 250 rows can be contacted.
    """

    auc: float | None
    within: float | None
    ece: float
    log_loss: float
    accepted: tuple[int, ...]

    @classmethod
    def of(cls, labels: np.ndarray, propensity: np.ndarray, periods: np.ndarray, smallest: int) -> "BlockFigures":
        chance = np.where(labels == 1, propensity, 1 - propensity)
        return cls(
            auc=metrics.figures(labels, propensity, share=0.1).get("auc"),
            within=metrics.within_periods(labels, propensity, periods, smallest),
            ece=metrics.expected_calibration_error(labels, propensity),
            log_loss=float(-np.log(chance).mean()),
            accepted=tuple(acceptances(labels, propensity, share) for share in CAPACITIES),
        )


class AlarmAt(Record):
    """The signals that were breached at row `at`. Rows are counted from the first one that is measured."""

    at: int
    signals: tuple[str, ...]


class ReplayResult(Record):
    """The result of one replay. Rows are counted from the first one that is measured; `over_time` is by `SPAN` rows.

    `live_from` is the row from which a model served that the gate had passed; None where none ever did.
    """

    policy: str
    schedule: str
    learns: bool
    alignment: int
    delay: str
    pooled: BlockFigures
    windows: tuple[BlockFigures, ...]
    over_time: tuple[BlockFigures, ...]
    fits: int
    seconds: float
    live_from: int | None
    retrained: tuple[int, ...]
    refused: tuple[int, ...]
    updated: tuple[int, ...]
    alarms: tuple[AlarmAt, ...]


class SummaryLine(Record):
    """A policy's mean figures over its alignments, with the range of the pooled AUC."""

    policy: str
    schedule: str
    learns: bool
    delay: str
    alignments: int
    auc: float
    lowest_auc: float
    highest_auc: float
    within: float
    ece: float
    log_loss: float
    accepted: tuple[float, ...]
    windows: tuple[float, ...]
    fits: float
    seconds: float
    retrainings: float
    refusals: float
    updates: float


def summary(results: Sequence[ReplayResult]) -> list[SummaryLine]:
    """Summarise results: one line for each policy and delay, in the order of the results."""
    groups: dict[tuple[str, str], list[ReplayResult]] = {}
    for result in results:
        groups.setdefault((result.policy, result.delay), []).append(result)
    return [_line(group) for group in groups.values()]


def _line(group: Sequence[ReplayResult]) -> SummaryLine:
    aucs = [_known(result.pooled.auc) for result in group]
    return SummaryLine(
        **group[0].model_dump(include={"policy", "schedule", "learns", "delay"}),
        alignments=len(group),
        auc=mean(aucs),
        lowest_auc=min(aucs),
        highest_auc=max(aucs),
        within=mean(_known(result.pooled.within) for result in group),
        ece=mean(result.pooled.ece for result in group),
        log_loss=mean(result.pooled.log_loss for result in group),
        windows=tuple(
            mean(_known(part.auc) for part in parts)
            for parts in zip(*(result.windows for result in group), strict=True)
        ),
        accepted=tuple(map(mean, zip(*(result.pooled.accepted for result in group), strict=True))),
        fits=mean(result.fits for result in group),
        seconds=mean(result.seconds for result in group),
        retrainings=mean(len(result.retrained) for result in group),
        refusals=mean(len(result.refused) for result in group),
        updates=mean(len(result.updated) for result in group),
    )


def _known(figure: float | None) -> float:
    return float("nan") if figure is None else figure


def earned(accepted: float, rows: int, share: float, value: float, cost: float) -> float:
    """EUR of so many acceptances where the best `share` of each 250 of the rows was contacted.

    Parameters
    ----------
    value, cost : EUR margin of an acceptance, and EUR that a contact costs
    """
    parts = [min(_CONTACTED, rows - start) for start in range(0, rows, _CONTACTED)]
    return accepted * value - cost * sum(metrics.contacts_of(part, share) for part in parts)


def acceptances(labels: np.ndarray, propensity: np.ndarray, share: float) -> int:
    """Count the acceptances among the best-scored `share` of each 250 rows, expected where scores are equal."""
    parts = [slice(start, start + _CONTACTED) for start in range(0, len(labels), _CONTACTED)]
    return round(sum(float(labels[part] @ metrics.contacted(propensity[part], share)) for part in parts))
