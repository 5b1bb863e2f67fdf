"""Trains models: trees and baseline, margins of rows that they have not seen, and calibration on these margins."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from scipy.special import logit
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from offers.contract.contract import Contract
from offers.contract.sections import ModelSettings
from offers.model.boosters import Booster
from offers.model.calibrator import Platt
from offers.model.encoder import Encoder
from offers.model.propensity import SCORING_BLOCK, PropensityModel, margins
from offers.training.boosting import Sample, fit_booster
from offers.training.calibration import calibrate, calibration_edges
from offers.training.dynamics import first_layer
from offers.training.size import BASELINE_ROWS, affordable, spread

_DIRECTIONS = {None: 0, "up": 1, "down": -1}

Margin = Callable[[np.ndarray], np.ndarray]
"""Encoded rows, shape (n, n_features), to log-odds, shape (n,)."""


class Learner(Protocol):
    """Fits encoded rows, 0/1 labels and weights, and returns a function from rows to log-odds."""

    def fit(self, matrix: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Margin: ...


@dataclass(frozen=True)
class BoostedTrees:
    """Trees of the settings' learner, with one thread per fit; fits run in parallel.

    `monotone` says of each feature how the score may move with it, as `Sample.monotone` does; empty for no constraint.
    """

    settings: ModelSettings
    feature_types: tuple[str, ...]
    seed: int = 0
    monotone: tuple[int, ...] = ()

    @classmethod
    def of(cls, contract: Contract, settings: ModelSettings, seed: int) -> "BoostedTrees":
        """Make the learner of a contract's inputs, with their constraints."""
        monotone = tuple(_DIRECTIONS[column.monotone] for column in contract.inputs)
        return cls(settings, tuple(Encoder.of(contract).feature_types), seed, monotone)

    def booster(self, matrix: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Booster:
        newest = slice(-self.settings.newest_rows, None) if self.settings.newest_rows else slice(None)
        sample = Sample(
            matrix[newest],
            labels[newest],
            None if weights is None else weights[newest],
            self.feature_types,
            self.monotone or (0,) * len(self.feature_types),
        )
        return fit_booster(self.settings, sample, self.seed)

    def fit(self, matrix: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Margin:
        booster = self.booster(matrix, labels, weights)
        return lambda rows: margins(booster, rows)


@dataclass(frozen=True)
class Logistic:
    """Logistic regression, the baseline: categories one-hot, numbers standardised, missing ones marked.

    Of more than `BASELINE_ROWS` rows it sees as many, evenly spread: its few weights need no more.
    """

    settings: ModelSettings
    feature_types: tuple[str, ...]

    def fit(self, matrix: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Margin:
        newest = slice(-self.settings.newest_rows, None) if self.settings.newest_rows else slice(None)
        matrix, labels, weights = matrix[newest], labels[newest], None if weights is None else weights[newest]
        some = spread(len(labels), BASELINE_ROWS)
        matrix, labels, weights = matrix[some], labels[some], _part(weights, some)
        if labels.min() == labels.max():
            # An early refit may have seen only one outcome. Then every row gets its rate by the rule of succession.
            constant = logit((labels.sum() + 1) / (len(labels) + 2))
            return lambda rows: np.full(len(rows), constant)
        categories = [j for j, kind in enumerate(self.feature_types) if kind == "c"]
        numbers = [j for j, kind in enumerate(self.feature_types) if kind == "q"]
        numeric = make_pipeline(SimpleImputer(add_indicator=True, keep_empty_features=True), StandardScaler())
        columns = ColumnTransformer(
            [("words", OneHotEncoder(handle_unknown="ignore"), categories), ("numbers", numeric, numbers)],
            sparse_threshold=0,
        )
        pipeline = make_pipeline(columns, LogisticRegression(max_iter=1000))
        pipeline.fit(matrix, labels, logisticregression__sample_weight=weights)
        # Of each category a column: a block at a time, so that they do not take memory for all rows.
        return lambda rows: np.concatenate(
            [pipeline.decision_function(rows[start : start + SCORING_BLOCK]) for start in _starts(rows)]
        )


def out_of_time_margins(
    learner: Learner,
    matrix: np.ndarray,
    labels: np.ndarray,
    edges: Sequence[int],
    workers: int = 2,
    done: Callable[[int, int], None] = lambda n, total: None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the margin of each row by a model that was fitted on all rows before the row's block.

    Parameters
    ----------
    matrix, labels, weights : rows in time order
    edges : first rows of the blocks, ascending; the last block ends at the last row

    Returns
    -------
    ndarray, shape (n_rows,)
        NaN before the first edge
    """
    margin = np.full(len(labels), np.nan)
    spans = list(pairwise([*edges, len(labels)]))

    def score(span: tuple[int, int]) -> None:
        start, end = span
        margin[start:end] = learner.fit(matrix[:start], labels[:start], _part(weights, slice(start)))(matrix[start:end])

    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        for n, _ in enumerate(pool.map(score, spans), 1):
            done(n, len(spans))
    return margin


def out_of_fold_margins(
    learner: Learner,
    matrix: np.ndarray,
    labels: np.ndarray,
    folds: int,
    seed: int,
    workers: int = 2,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute each row's margin by a model that was fitted on the other stratified folds, and the row's fold.

    Rows of one group are in one fold.
    """
    margin, fold = np.full(len(labels), np.nan), np.empty(len(labels), np.int8)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splits = kind(folds, shuffle=True, random_state=seed).split(matrix, labels, groups)

    def score(numbered: tuple[int, tuple[np.ndarray, np.ndarray]]) -> None:
        number, (train, test) = numbered
        margin[test] = learner.fit(matrix[train], labels[train], _part(weights, train))(matrix[test])
        fold[test] = number

    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        list(pool.map(score, enumerate(splits)))
    return margin, fold


def _starts(rows: np.ndarray) -> range:
    return range(0, max(len(rows), 1), SCORING_BLOCK)


def _part(weights: np.ndarray | None, rows: slice | np.ndarray) -> np.ndarray | None:
    return None if weights is None else weights[rows]


def train(
    contract: Contract,
    settings: ModelSettings,
    matrix: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> PropensityModel:
    """Fit the booster on all rows, with a layer if the contract has one, else with a calibrator.

    The calibrator only sees margins of rows that the scoring fit had not been trained on. With a time order these are
    the newest rows, each scored by a model refitted as in production; else they are stratified folds. The final booster
    is still trained on all rows. A model with a layer has no calibrator: the layer already follows the level, and a
    calibrator would correct for the same level again, with a delay.

    Weights count in the fit of the trees. Calibrator and layer count each row once, so that a propensity is the rate of
    the rows as they are.
    """
    encoder, learner = Encoder.of(contract), BoostedTrees.of(contract, settings, seed)
    layer = first_layer(contract, matrix, labels)
    if layer is not None or contract.calibration.method == "none":
        return PropensityModel(encoder, learner.booster(matrix, labels, weights), Platt(), layer)
    if contract.time is not None:
        refit_every = affordable(contract, len(labels)).evaluation.refit_every
        edges = calibration_edges(len(labels), refit_every, contract.calibration)
        margin = out_of_time_margins(learner, matrix, labels, edges, weights=weights)
    else:
        folds = contract.evaluation.folds
        margin, _ = out_of_fold_margins(learner, matrix, labels, folds, seed, weights=weights, groups=groups)
    calibrator = calibrate(margin, labels, contract.calibration, ordered=contract.time is not None)
    return PropensityModel(encoder, learner.booster(matrix, labels, weights), calibrator)
