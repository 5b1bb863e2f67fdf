"""Propensities as production would have given them, by refits through time or by folds, and the champion's."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from offers.contract.contract import Contract
from offers.contract.sections import ModelSettings
from offers.data.dataset import Dataset, origin
from offers.model.propensity import PropensityModel
from offers.training.calibration import calibrate, calibration_edges
from offers.training.dynamics import rolling_margin
from offers.training.learners import BoostedTrees, Learner, Logistic, out_of_fold_margins, out_of_time_margins
from offers.training.size import fits_at_once

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Champion:
    """The model that serves now, its settings, and the rows that it was trained on."""

    name: str
    model: PropensityModel
    settings: ModelSettings
    seed: int
    rows: int
    fingerprint: str


def rolling_propensity(
    learner: Learner,
    matrix: np.ndarray,
    labels: np.ndarray,
    contract: Contract,
    alignment: int = 0,
    progress: Progress = lambda text: None,
    weights: np.ndarray | None = None,
    workers: int = 2,
) -> np.ndarray:
    """Score rows as production would have, with a refit every `refit_every` rows.

    At each refit the learner sees all earlier rows. The layer learns every batch of labels, as updates would. Without a
    layer, the calibrator is fitted on margins that earlier refits gave to the newest rows. Each refit is thus the model
    that `learners.train` would make of the rows known at that time.

    Parameters
    ----------
    alignment : rows in [0, refit_every) by which the refits are delayed; the alignment of blocks changes a pooled AUC
        by 0.02, so report a mean over several alignments
    workers : refits that run side by side

    Returns
    -------
    ndarray, shape (n_rows - origin,), in (0, 1)
    """
    n_rows, step = len(labels), contract.evaluation.refit_every
    first = origin(contract, n_rows)
    start = first + alignment % step - (step if alignment % step else 0)
    edges = list(range(start, n_rows, step))
    earlier = [] if contract.learns else calibration_edges(start, step, contract.calibration)

    def report(n: int, total: int) -> None:
        progress(f"refit {n} of {total}")

    margin = out_of_time_margins(learner, matrix, labels, earlier + edges, workers, report, weights)
    if contract.learns:
        return np.asarray(expit(rolling_margin(contract, matrix, labels, margin, start))[first:])
    propensity = np.full(n_rows, np.nan)
    for begin, end in zip(edges, [*edges[1:], n_rows], strict=True):
        earlier_margin = margin[:begin]
        propensity[begin:end] = calibrate(earlier_margin, labels[:begin], contract.calibration)(margin[begin:end])
    return propensity[first:]


def folded_propensity(
    learner: BoostedTrees | Logistic,
    matrix: np.ndarray,
    labels: np.ndarray,
    contract: Contract,
    seed: int,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Compute out-of-fold propensities of a random stratified split; each fold is calibrated on the others."""
    learner = replace(learner, settings=learner.settings.model_copy(update={"newest_rows": None}))
    folds = contract.evaluation.folds
    margin, fold = out_of_fold_margins(learner, matrix, labels, folds, seed, weights=weights, groups=groups)
    propensity = np.empty(len(labels))
    for number in range(folds):
        here = fold == number
        others = np.where(here, np.nan, margin)
        settings = contract.calibration.model_copy(update={"rows": len(labels)})
        propensity[here] = calibrate(others, labels, settings, ordered=False)(margin[here])
    return propensity


def champion_propensity(champion: Champion, dataset: Dataset, matrix: np.ndarray, contract: Contract) -> np.ndarray:
    """Score the evaluated rows by the champion, without letting it profit from rows that it was trained on.

    The champion itself scores rows newer than its training data. For rows that it has seen, models with its settings
    are refitted through time, like the challenger's. The same is done for all rows where its training data is not the
    beginning of this data set.
    """
    labels, weights = dataset.labels, dataset.weights
    learner = BoostedTrees.of(contract, champion.settings, champion.seed)
    if contract.time is None:
        return folded_propensity(learner, matrix, labels, contract, champion.seed, weights, dataset.groups)
    first = origin(contract, len(labels))
    begins_with = dataset.first(champion.rows)
    boundary = champion.rows if begins_with.fingerprint(contract) == champion.fingerprint else len(labels)
    parts = []
    if boundary > first:
        workers = fits_at_once(contract, champion.settings, len(labels))
        rolled = rolling_propensity(learner, matrix, labels, contract, weights=weights, workers=workers)
        parts.append(rolled[: boundary - first])
    if boundary < len(labels):
        parts.append(champion.model.propensity(dataset.frame.iloc[max(boundary, first) :]))
    return np.concatenate(parts)
