"""The libraries of boosted trees: native model files, margins, contributions, and each feature's gain."""

from collections.abc import Collection
from functools import lru_cache
from importlib import import_module
from itertools import chain
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import xgboost as xgb

from offers.errors import BundleError

Booster = Any
"""A model of one of the libraries: `xgboost.Booster`, `lightgbm.Booster` or `catboost.CatBoost`."""


class Library(Protocol):
    """What one library does with its boosters. Rows are encoded: shape (n, n_features), float32."""

    file: str
    """Name of the booster's file in a bundle."""
    error: str
    """The exception of the package for a file that it can't read."""

    def dump(self, booster: Booster) -> bytes:
        """Write a booster in the library's own format; the same booster gives the same bytes."""

    def load(self, content: bytes) -> Booster:
        """Read what `dump` wrote."""

    def margins(self, booster: Booster, matrix: np.ndarray, threads: int) -> np.ndarray:
        """Compute the log-odds of rows, shape (n,)."""

    def contributions(self, booster: Booster, matrix: np.ndarray) -> np.ndarray:
        """Compute Shapley values in log-odds, shape (n, n_features + 1); the last column is the bias."""

    def gain(self, booster: Booster, features: int) -> np.ndarray:
        """Compute each feature's gain, shape (n_features,); only its share of the sum has a meaning."""


class _XGBoost:
    file, error = "booster.ubj", "core.XGBoostError"

    def dump(self, booster: Booster) -> bytes:
        return bytes(booster.save_raw("ubj"))

    def load(self, content: bytes) -> Booster:
        booster = xgb.Booster()
        booster.load_model(bytearray(content))
        return booster

    def margins(self, booster: Booster, matrix: np.ndarray, threads: int) -> np.ndarray:
        # A booster of XGBoost has its number of threads as a parameter.
        return np.asarray(booster.inplace_predict(matrix, predict_type="margin"))

    def contributions(self, booster: Booster, matrix: np.ndarray) -> np.ndarray:
        data = xgb.DMatrix(matrix, feature_types=booster.feature_types, enable_categorical=True, nthread=1)
        return np.asarray(booster.predict(data, pred_contribs=True).astype(np.float64))

    def gain(self, booster: Booster, features: int) -> np.ndarray:
        gain = booster.get_score(importance_type="total_gain")
        return np.array([float(np.sum(gain.get(f"f{j}", 0.0))) for j in range(features)])


class _LightGBM:
    file, error = "booster.txt", "basic.LightGBMError"

    def dump(self, booster: Booster) -> bytes:
        return str(booster.model_to_string()).encode()

    def load(self, content: bytes) -> Booster:
        return module("lightgbm").Booster(model_str=content.decode())

    def margins(self, booster: Booster, matrix: np.ndarray, threads: int) -> np.ndarray:
        return np.asarray(booster.predict(matrix, raw_score=True, num_threads=threads))

    def contributions(self, booster: Booster, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=1))

    def gain(self, booster: Booster, features: int) -> np.ndarray:
        return np.asarray(booster.feature_importance("gain"), np.float64)


class _CatBoost:
    file, error = "booster.cbm", "CatBoostError"

    def dump(self, booster: Booster) -> bytes:
        # CatBoost writes a random id and the time of training into the file, which would change the bundle's name.
        notes = booster.get_metadata()
        for name in ("model_guid", "train_finish_time"):
            if name in notes:
                del notes[name]
        with TemporaryDirectory() as directory:
            path = Path(directory) / self.file
            booster.save_model(str(path))
            return path.read_bytes()

    def load(self, content: bytes) -> Booster:
        return module("catboost").CatBoost().load_model(blob=content)

    def margins(self, booster: Booster, matrix: np.ndarray, threads: int) -> np.ndarray:
        rows = catboost_pool(matrix, _columns(booster))
        return np.asarray(booster.predict(rows, prediction_type="RawFormulaVal", thread_count=threads))

    def contributions(self, booster: Booster, matrix: np.ndarray) -> np.ndarray:
        columns = _columns(booster)
        parts = booster.get_feature_importance(catboost_pool(matrix, columns), type="ShapValues", thread_count=1)
        out = np.empty_like(parts)
        out[:, [*chain(*columns), -1]] = parts
        return np.asarray(out)

    def gain(self, booster: Booster, features: int) -> np.ndarray:
        out = np.zeros(features)
        out[list(chain(*_columns(booster)))] = booster.get_feature_importance(type="PredictionValuesChange")
        return out


LIBRARIES: dict[str, Library] = {"xgboost": _XGBoost(), "lightgbm": _LightGBM(), "catboost": _CatBoost()}
"""By the name of the learner in a contract, which is also the name of the package."""


def learner_of(booster: Booster) -> str:
    """Name the learner of a booster."""
    return type(booster).__module__.partition(".")[0]


def library_of(booster: Booster) -> Library:
    """Find the library that made a booster."""
    return LIBRARIES[learner_of(booster)]


def learner_in(files: Collection[str]) -> str:
    """Find the learner whose booster is among the files of a bundle.

    Raises
    ------
    BundleError
        there is no booster of a known learner
    """
    for name, library in LIBRARIES.items():
        if library.file in files:
            return name
    expected = ", ".join(library.file for library in LIBRARIES.values())
    raise BundleError(f"expected one of {expected} in the bundle, found none: fetch the bundle again")


def read_booster(learner: str, content: bytes, bundle: object) -> Booster:
    """Read the booster of a bundle.

    Raises
    ------
    BundleError
        the learner's package is not installed, or can't read the file
    """
    package, library = module(learner), LIBRARIES[learner]
    try:
        return library.load(content)
    except (attrgetter(library.error)(package), UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise BundleError(
            f"bundle {bundle}: {learner} {package.__version__} can't read {library.file}: {reason}"
        ) from None


def module(learner: str) -> Any:
    """Import a learner's package.

    Raises
    ------
    BundleError
        it is not installed, or lacks a library of the system
    """
    try:
        return import_module(learner)
    except ImportError:
        raise BundleError(
            f"learner {learner} needs the package of that name, which is not installed: run make setup EXTRA={learner},"
            f" or pip install 'offers[{learner}]'"
        ) from None
    except OSError as error:
        raise BundleError(
            f"learner {learner} can't be loaded ({error}): install the system's OpenMP runtime, such as libgomp1"
        ) from None


def catboost_pool(matrix: np.ndarray, columns: tuple[list[int], list[int]], **arguments: Any) -> Any:
    """Turn encoded rows into CatBoost's: it wants numbers and words apart, and has no missing words.

    Parameters
    ----------
    columns : places of the numbers and of the categories in the encoded rows
    arguments : labels, weights and the like, for `catboost.Pool`
    """
    catboost = module("catboost")
    numbers, categories = columns
    codes = np.nan_to_num(matrix[:, categories], nan=-1.0).astype(np.intp)
    features = catboost.FeaturesData(
        num_feature_data=np.ascontiguousarray(matrix[:, numbers]) if numbers else None,
        cat_feature_data=_words(int(codes.max(initial=0)) + 1)[codes + 1] if categories else None,
        # Names carry the places in the encoded rows into the model's file.
        num_feature_names=list(map(str, numbers)) if numbers else None,
        cat_feature_names=list(map(str, categories)) if categories else None,
    )
    return catboost.Pool(features, **arguments)


def _columns(booster: Booster) -> tuple[list[int], list[int]]:
    places, categories = [int(name) for name in booster.feature_names_], len(booster.get_cat_feature_indices())
    first = len(places) - categories
    return places[:first], places[first:]


@lru_cache(maxsize=64)
def _words(count: int) -> np.ndarray:
    """The codes -1, 0, … as words."""
    return np.array([str(code).encode() for code in range(-1, count)], object)
