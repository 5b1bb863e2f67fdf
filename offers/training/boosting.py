"""Fits boosted trees by the settings' learner, on one thread, so that a model does not depend on the machine."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import xgboost as xgb

from offers.contract.sections import ModelSettings
from offers.model.boosters import Booster, catboost_pool, module

# Categories with fewer values are split one against the rest, because partitions overfit with few rows per value.
_ONE_HOT_LIMIT = 64


@dataclass(frozen=True)
class Sample:
    """Rows to fit.

    Attributes
    ----------
    matrix, labels : encoded rows, and 0 or 1 for each
    weights : positive, shape (n_rows,); None where every row counts the same
    feature_types : c for a category, q for a number
    monotone : for each feature 1 if the score must not fall as it rises, -1 if it must not rise, else 0
    margins : log-odds that the trees are added to, shape (n_rows,); for XGBoost alone
    """

    matrix: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    feature_types: tuple[str, ...]
    monotone: tuple[int, ...]
    margins: np.ndarray | None = None

    @property
    def categories(self) -> list[int]:
        return [j for j, kind in enumerate(self.feature_types) if kind == "c"]

    @property
    def numbers(self) -> list[int]:
        return [j for j, kind in enumerate(self.feature_types) if kind == "q"]

    @property
    def of_both(self) -> "Sample":
        """The same rows; where only one outcome occurs, the first row once more with the other outcome.

        LightGBM and CatBoost refuse rows with only one outcome, which an early refit may have.
        """
        if self.labels.min() != self.labels.max():
            return self
        weights = self.weights if self.weights is None else np.append(self.weights, self.weights[0])
        matrix, labels = np.vstack([self.matrix, self.matrix[:1]]), np.append(self.labels, 1 - self.labels[0])
        return Sample(matrix, labels, weights, self.feature_types, self.monotone)


def fit_booster(settings: ModelSettings, sample: Sample, seed: int) -> Booster:
    """Fit the trees of the settings' learner; see the table in docs/contract.md for what each setting is called there.

    Raises
    ------
    BundleError
        the learner's package is not installed
    """
    return _FITS[settings.learner](settings, sample, seed)


def _xgboost(settings: ModelSettings, sample: Sample, seed: int) -> Booster:
    data = xgb.QuantileDMatrix(
        sample.matrix,
        sample.labels,
        weight=sample.weights,
        base_margin=sample.margins,
        feature_types=list(sample.feature_types),
        enable_categorical=True,
        nthread=1,
    )
    params = parameters(settings, sample.monotone, seed)
    if sample.margins is not None:
        # Else the booster would add the log-odds of the base rate to every score.
        params["base_score"] = 0.5
    return xgb.train(params, data, settings.trees)


def parameters(settings: ModelSettings, monotone: tuple[int, ...], seed: int) -> dict[str, Any]:
    """Build XGBoost's parameters."""
    params: dict[str, Any] = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": settings.depth,
        "learning_rate": settings.learning_rate,
        "subsample": settings.row_share,
        "colsample_bytree": settings.column_share,
        "min_child_weight": settings.min_child_weight,
        "reg_lambda": settings.l2,
        "max_cat_to_onehot": _ONE_HOT_LIMIT,
        "seed": seed,
        "nthread": 1,
    }
    return params | ({"monotone_constraints": monotone} if any(monotone) else {})


def _lightgbm(settings: ModelSettings, sample: Sample, seed: int) -> Booster:
    lightgbm, sample = module("lightgbm"), sample.of_both
    params: dict[str, Any] = {
        "objective": "binary",
        "max_depth": settings.depth,
        "num_leaves": 2**settings.depth,
        "learning_rate": settings.learning_rate,
        "bagging_fraction": settings.row_share,
        "bagging_freq": 1,
        "feature_fraction": settings.column_share,
        "min_sum_hessian_in_leaf": settings.min_child_weight,
        "lambda_l2": settings.l2,
        "max_cat_to_onehot": _ONE_HOT_LIMIT,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    if any(sample.monotone):
        params["monotone_constraints"] = list(sample.monotone)
    data = lightgbm.Dataset(
        sample.matrix,
        sample.labels,
        weight=sample.weights,
        categorical_feature=sample.categories or "auto",
        params=params,
    )
    return lightgbm.train(params, data, settings.trees)


def _catboost(settings: ModelSettings, sample: Sample, seed: int) -> Booster:
    catboost, sample = module("catboost"), sample.of_both
    columns = sample.numbers, sample.categories
    params: dict[str, Any] = {
        "loss_function": "Logloss",
        "iterations": settings.trees,
        "depth": settings.depth,
        "learning_rate": settings.learning_rate,
        "bootstrap_type": "Bernoulli",
        "subsample": settings.row_share,
        "rsm": settings.column_share,
        "l2_leaf_reg": settings.l2,
        "one_hot_max_size": _ONE_HOT_LIMIT,
        # Target statistics of large categories use earlier rows alone, as the rows are in time order.
        "has_time": True,
        "random_seed": seed,
        "thread_count": 1,
        "allow_writing_files": False,
        "logging_level": "Silent",
    }
    if any(sample.monotone):
        params["monotone_constraints"] = [sample.monotone[j] for j in chain(*columns)]
    data = catboost_pool(sample.matrix, columns, label=sample.labels, weight=sample.weights)
    return catboost.CatBoost(params).fit(data)


_FITS: dict[str, Callable[[ModelSettings, Sample, int], Booster]] = {
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
}
