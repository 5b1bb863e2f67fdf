"""The cheap answer where scores are off and ranks still hold: a new calibrator for the same trees."""

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from offers.bundle.bundle import Bundle
from offers.bundle.provenance import Recalibration
from offers.contract.sections import Retraining
from offers.data.dataset import Dataset
from offers.errors import DataError
from offers.model.propensity import Calibrator, PropensityModel
from offers.training.calibration import fit_calibrator

_FAR = 50.0


def recalibrate(parent: Bundle, dataset: Dataset) -> tuple[PropensityModel, Recalibration]:
    """Give the parent's trees a calibrator for the rows that have come since they were trained.

    Parameters
    ----------
    parent : the bundle that serves
    dataset : the rows that it was made from, and newer ones with matured labels after them

    Returns
    -------
    PropensityModel
    Recalibration
        its lineage, for `offers.bundle.writing.write`

    Raises
    ------
    DataError
        the rows do not begin with the parent's, or too few are newer than its trees
    """
    manifest, contract = parent.manifest, parent.contract
    rows, settings = manifest.trained_rows, contract.retraining
    seen = slice(manifest.data.rows)
    known = Dataset(dataset.frame.iloc[seen], dataset.labels[seen], dataset.periods[seen])
    if known.fingerprint(contract) != manifest.data.fingerprint:
        raise DataError(
            f"expected rows that begin with the {manifest.data.rows} rows of bundle {parent.name}, got others: "
            "add new rows at the end, and leave the earlier ones as they are"
        )
    if (newer := len(dataset) - rows) < settings.labels:
        raise DataError(
            f"expected {settings.labels} rows newer than those that the trees of bundle {parent.name} were trained on, "
            f"got {newer}: wait for more labels"
        )
    margin = parent.model.margin(dataset.frame.iloc[rows:])
    calibrator = refit(parent.model.calibrator, margin, dataset.labels[rows:], settings)
    return replace(parent.model, calibrator=calibrator), Recalibration(parent=parent.name, trained_rows=rows)


def prequential_propensity(parent: Bundle, dataset: Dataset, propensity: np.ndarray) -> np.ndarray:
    """Propensities as recalibrations of the parent would have given them, one every `refit_every` rows.

    Each block of rows newer than the parent is scored by its trees, with a calibrator for the newer rows before that
    block; the first block by the parent as it is. Rows that the parent was made from keep what refits gave them, so
    that no row profits from having been learnt.

    Parameters
    ----------
    dataset : as for `recalibrate`
    propensity : ndarray, shape (n_scored,), of the parent on the newest rows, from
        `offers.evaluation.refits.champion_propensity`

    Returns
    -------
    ndarray, shape (n_scored,), in (0, 1)
    """
    contract, calibrator = parent.contract, parent.model.calibrator
    first, learnt, n_rows = parent.manifest.data.rows, parent.manifest.trained_rows, len(dataset)
    margin, labels = parent.model.margin(dataset.frame.iloc[learnt:]), dataset.labels[learnt:]
    newer = np.full(n_rows, np.nan)
    for begin in range(first, n_rows, contract.evaluation.refit_every):
        if begin > first:
            known = slice(0, begin - learnt)
            calibrator = refit(parent.model.calibrator, margin[known], labels[known], contract.retraining)
        block = slice(begin, begin + contract.evaluation.refit_every)
        newer[block] = calibrator(margin[block.start - learnt : block.stop - learnt])
    newer = newer[n_rows - len(propensity) :]
    return np.where(np.isnan(newer), propensity, newer)


def refit(parent: Calibrator, margin: np.ndarray, labels: np.ndarray, settings: Retraining) -> Calibrator:
    """Fit a calibrator anew on the newest matured labels, starting from the one that serves.

    The penalty of `learners.fit_calibrator` holds the parent's propensities as they are until the labels say
    otherwise. With fewer than `settings.platt_labels` labels the intercept alone moves, so that ranks stay.

    Parameters
    ----------
    margin : ndarray, shape (n,), log-odds that the parent's trees give to rows they were not trained on, in time order
    labels : ndarray of 0/1, shape (n,)

    Returns
    -------
    Calibrator
        for the margins of the same trees
    """
    newest = slice(-settings.recalibration_rows, None)
    log_odds = parent.slope * margin[newest].astype(np.float64) + parent.intercept
    known = labels[newest].astype(np.float64)
    if len(known) < settings.platt_labels:
        change = Calibrator(1.0, _intercept(log_odds, known, settings.prior))
    else:
        change = fit_calibrator(log_odds, known, settings.prior)
    return Calibrator(
        round(change.slope * parent.slope, 6), round(change.slope * parent.intercept + change.intercept, 6)
    )


def _intercept(log_odds: np.ndarray, labels: np.ndarray, prior: float) -> float:
    """Where the derivative of the penalised log-loss is 0."""
    return float(brentq(lambda shift: (expit(log_odds + shift) - labels).sum() + prior * shift, -_FAR, _FAR))
