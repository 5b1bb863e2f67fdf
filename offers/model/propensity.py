"""The model that training makes and serving uses: encoder, booster, calibrator and layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from offers.model.boosters import Booster, library_of
from offers.model.calibrator import Calibrator
from offers.model.encoder import Encoder
from offers.model.layer import Layer

SCORING_BLOCK = 65_536


def margins(booster: Booster, matrix: np.ndarray, threads: int = 1) -> np.ndarray:
    """Compute the log-odds of encoded rows, shape (n,); a booster of XGBoost has `threads` as its own parameter."""
    return library_of(booster).margins(booster, matrix, threads)


@dataclass(frozen=True)
class PropensityModel:
    """Scores contract columns by the calibrated trees and, where there is one, by the layer."""

    encoder: Encoder
    booster: Booster
    calibrator: Calibrator
    layer: Layer | None = None

    def propensity(self, rows: pd.DataFrame | Any, threads: int = 2) -> np.ndarray:
        """Score typed rows, a block at a time, so that memory does not grow with their number.

        Parameters
        ----------
        rows : DataFrame or Arrow table, or the columns of one request by name, which are scored as one block

        Returns
        -------
        ndarray, shape (n_rows,), float64, in (0, 1)
        """
        if isinstance(rows, Mapping):
            return np.asarray(expit(self.margin(rows, threads)))
        out = np.empty(len(rows), np.float64)
        for start in range(0, len(rows), SCORING_BLOCK):
            block = slice(start, start + SCORING_BLOCK)
            part = rows.iloc[block] if isinstance(rows, pd.DataFrame) else rows[block]
            out[block] = expit(self.margin(part, threads))
        return out

    def margin(self, rows: pd.DataFrame | Any, threads: int = 2) -> np.ndarray:
        """Compute the log-odds of the propensity, shape (n_rows,), float64."""
        return self.encoded_margin(self.encoder.encode(rows, threads))

    def encoded_margin(self, matrix: np.ndarray) -> np.ndarray:
        """Compute the log-odds of the propensity of encoded rows, shape (n_rows,), float64."""
        trees = self.tree_margin(matrix)
        return trees if self.layer is None else self.layer.mixed(trees, matrix)

    def tree_margin(self, matrix: np.ndarray) -> np.ndarray:
        """Compute the calibrated log-odds of the trees alone for encoded rows, shape (n_rows,), float64."""
        return self.calibrator.log_odds(margins(self.booster, matrix))

    def contributions(self, rows: pd.DataFrame | Any) -> np.ndarray:
        """Compute each feature's contribution to a row's margin: Shapley values of trees (Lundberg et al. 2020).

        Where there is a layer, contributions of trees and layer are mixed by the layer's share, and the
        offset is part of the bias.

        Returns
        -------
        ndarray, shape (n_rows, n_features + 1), float64
            in log-odds; the last column is the bias, and a row sums to its margin up to rounding
        """
        matrix = self.encoder.encode(rows)
        parts = self.calibrator.contributions(library_of(self.booster).contributions(self.booster, matrix))
        return parts if self.layer is None else self.layer.contributions(parts, matrix)

    def importance(self, rows: pd.DataFrame | Any) -> dict[str, float]:
        """Compute the mean |contribution| of each feature to the margin, in log-odds, by name."""
        mean = np.abs(self.contributions(rows)[:, :-1].astype(np.float64)).mean(axis=0)
        return {name: float(value) for name, value in zip(self.encoder.names, mean, strict=True)}
