"""Judges one window: Alibi Detect's p-values, the model's scores and attributions, and what they come to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from offers.drift.examination import SCORE, Reference, WatchedColumn, WindowReport, at_mix, at_reference_offers, examine
from offers.drift.selection import decoded
from serving.drift.bundle import Watched
from serving.drift.detector import Detector
from serving.drift.histograms import Histogram, histogram

EXPLAINED_ROWS = 200
_OTHER = 1e-4
_SMALLEST = 1e-9


@dataclass(frozen=True)
class WindowJudgement:
    """What one window has shown.

    Attributes
    ----------
    histograms : of each column and of the score at the reference's offers
    served_otherwise : share of rows whose propensity is not what the bundle's model gives them, in [0, 1]
    """

    report: WindowReport
    histograms: dict[str, Histogram]
    served_otherwise: float

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        histograms = {name: histogram.to_dict() for name, histogram in self.histograms.items()}
        return self.report.to_dict() | {"histograms": histograms, "served_otherwise": self.served_otherwise}


class Judge:
    """Knows the bundle, and nothing of windows that came before but the selection that held last."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self._compare_with("")

    def __call__(self, scored: pd.DataFrame, selection: str = "") -> WindowJudgement:
        """Judge the rows of a window, with their propensities as `_propensity`.

        Parameters
        ----------
        selection : which rows of the reference the catalogue's rules let pass; see `offers.drift.selection`
        """
        if selection != self._selected:
            self._compare_with(selection)
        rows, answers = scored.drop(columns=SCORE), scored[SCORE].to_numpy()
        model = self.watched.model
        at_reference = self.watched.typed(at_reference_offers(self.reference, rows))
        propensity = model.propensity(at_reference)
        report = examine(
            self.reference,
            rows,
            propensity,
            model.importance(at_reference.iloc[_evenly(len(rows))]),
            self.detector.p_values(rows),
        )
        otherwise = np.abs(self._propensity(rows) - answers) > _OTHER
        return WindowJudgement(report, self._histograms(rows, propensity), float(otherwise.mean()))

    def _compare_with(self, selection: str) -> None:
        whole = self.watched.reference
        reference = whole.where(decoded(selection, len(whole)))
        self.reference: Reference = at_mix(reference, self._propensity)
        self.detector = Detector(reference)
        self._selected = selection

    def _propensity(self, rows: pd.DataFrame) -> np.ndarray:
        return self.watched.model.propensity(self.watched.typed(rows))

    def _histograms(self, rows: pd.DataFrame, propensity: np.ndarray) -> dict[str, Histogram]:
        frame = self.reference.frame
        by_column = {c.name: histogram(c, frame[c.name], rows[c.name]) for c in self.reference.columns}
        # Most propensities are small: in log-odds they don't share one bar.
        odds = _log_odds(self.reference.propensity), _log_odds(propensity)
        return by_column | {
            SCORE: histogram(WatchedColumn(SCORE, "number"), *odds, lambda value: f"{expit(value):.1%}")
        }


def _log_odds(propensity: np.ndarray) -> pd.Series:
    return pd.Series(logit(np.clip(propensity, _SMALLEST, 1 - _SMALLEST)))


def _evenly(rows: int) -> np.ndarray:
    return np.unique(np.linspace(0, rows - 1, EXPLAINED_ROWS).astype(int))
