"""Margins of every customer with every offer; a tree that uses no offer column is walked once per customer."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xgboost as xgb

from offers.model.boosters import Booster, learner_of
from offers.model.propensity import margins

_LEAF = -1


@dataclass(frozen=True)
class _Part:
    """A group of the trees, as a booster of its own.

    `values` are the distinct settings of the offer columns that these trees use, shape (n_settings, n_columns).
    `setting` gives each variant's place among them.
    """

    booster: xgb.Booster
    columns: list[int]
    values: np.ndarray
    setting: np.ndarray


def trees_of(
    booster: Booster, columns: Sequence[int], variants: np.ndarray, threads: int = 2
) -> "SortedTrees | WholeTrees":
    """Choose the fastest way of scoring that a booster allows; see `SortedTrees` for the parameters."""
    ways = SortedTrees if learner_of(booster) == "xgboost" else WholeTrees
    return ways(booster, columns, variants, threads)


class WholeTrees:
    """Margins of every customer with every variant, by trees of any library: all trees are walked for each variant."""

    def __init__(self, booster: Booster, columns: Sequence[int], variants: np.ndarray, threads: int = 2) -> None:
        self.columns, self.variants = list(columns), variants
        self._booster, self._threads = booster, threads

    def margins(self, matrix: np.ndarray) -> np.ndarray:
        """Compute the log-odds of each customer with each variant; see `SortedTrees.margins`."""
        out = np.empty((len(matrix), len(self.variants)))
        for place, values in enumerate(self.variants):
            matrix[:, self.columns] = values
            out[:, place] = margins(self._booster, matrix, self._threads)
        return out


class SortedTrees:
    """Trees of XGBoost, grouped by the offer columns that they use.

    It gives the margins of every customer with every variant; no tree is walked twice for the same inputs.

    Parameters
    ----------
    booster : trees with one output
    columns : places of the offer columns in the encoded matrix
    variants : ndarray, shape (n_variants, len(columns))
        encoded values of these columns
    threads : number of cores to use
    """

    def __init__(self, booster: xgb.Booster, columns: Sequence[int], variants: np.ndarray, threads: int = 2) -> None:
        self.columns, self.variants = list(columns), variants
        self._parts = [
            _part(part, [column for column in columns if column in features], columns, variants)
            for features, part in _sorted(booster, frozenset(columns)).items()
        ]
        for part in self._parts:
            part.booster.set_param({"nthread": threads})

    def margins(self, matrix: np.ndarray) -> np.ndarray:
        """Compute the log-odds of each customer with each variant.

        Parameters
        ----------
        matrix : ndarray, shape (n_customers, n_features), float32
            encoded customers; its offer columns are overwritten

        Returns
        -------
        ndarray, shape (n_customers, n_variants), float32
            within 1e-5 of the whole booster's margins: the same leaves, summed in another order
        """
        total = np.zeros((len(matrix), len(self.variants)), np.float32)
        for part in self._parts:
            log_odds = np.empty((len(matrix), len(part.values)), np.float32)
            for place, values in enumerate(part.values):
                matrix[:, part.columns] = values
                log_odds[:, place] = margins(part.booster, matrix)
            total += log_odds[:, part.setting]
        return total


def _part(booster: xgb.Booster, features: list[int], columns: Sequence[int], variants: np.ndarray) -> _Part:
    of_part = variants[:, [list(columns).index(column) for column in features]]
    # NaN does not equal itself, so missing values are inf while settings are compared. Trees that use no offer column
    # have one setting, the empty one.
    values, setting = np.unique(np.where(np.isnan(of_part), np.inf, of_part), axis=0, return_inverse=True)
    return _Part(booster, features, np.where(np.isinf(values), np.nan, values), setting.reshape(-1))


def _sorted(booster: xgb.Booster, columns: frozenset[int]) -> dict[frozenset[int], xgb.Booster]:
    """Split a booster by the offer columns that its trees use; the first part carries the base score."""
    whole = json.loads(booster.save_raw("json"))
    groups: dict[frozenset[int], list[dict[str, object]]] = defaultdict(list)
    for tree in whole["learner"]["gradient_booster"]["model"]["trees"]:
        nodes = zip(tree["split_indices"], tree["left_children"], strict=True)
        groups[columns & {column for column, left in nodes if left != _LEAF}].append(tree)
    parts = {}
    for features, trees in groups.items():
        parts[features] = _booster(whole, trees)
        # The other parts get a base score of one half, whose log-odds are 0, so that it counts once.
        whole["learner"]["learner_model_param"]["base_score"] = "[5E-1]"
    return parts


def _booster(whole: dict[str, dict[str, object]], trees: list[dict[str, object]]) -> xgb.Booster:
    model = whole["learner"]["gradient_booster"]["model"]  # type: ignore[index]
    model |= {
        "trees": [tree | {"id": place} for place, tree in enumerate(trees)],
        "tree_info": [0] * len(trees),
        "iteration_indptr": list(range(len(trees) + 1)),
        "gbtree_model_param": model["gbtree_model_param"] | {"num_trees": str(len(trees))},
    }
    booster = xgb.Booster()
    booster.load_model(bytearray(json.dumps(whole).encode()))
    return booster
