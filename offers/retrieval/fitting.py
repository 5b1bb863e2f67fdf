"""Fits the ranker on views whose outcome is known."""

from dataclasses import replace

import numpy as np

from offers.contract.market import Market
from offers.errors import DataError
from offers.model.calibrator import Platt
from offers.retrieval.ranker import BLOCK, Floats, PairInputs, Ranker
from offers.retrieval.user_tower import Towers
from offers.retrieval.views import MICROSECONDS_PER_DAY, Views
from offers.training.boosting import Sample, fit_booster
from offers.training.calibration import calibrate, fit_calibrator

NEWEST = 500_000
"""Views that the ranker learns from, at most, where the contract does not say how many."""

CALIBRATING = 0.2
"""Share of the views, the newest, that the calibrator is fitted on, and the trees are not."""


def fit_ranker(inputs: PairInputs, views: Views, towers: Towers | None, seed: int) -> Ranker:
    """Fit trees on the older views, and the calibrator on the newest ones, of which the trees know nothing.

    The position is no input: whether a user who looks at a product accepts it does not depend on the place where it
    stood, but the place tells how popular the product is, and the trees would take one for the other.

    Parameters
    ----------
    views : in time order; those that are not yet `matures_after_days` old at the last one are left out

    Raises
    ------
    DataError
        too few views have matured, or none of them ended in an acceptance
    """
    market = inputs.market
    views = newest(mature(views, market), market.model.newest_rows or NEWEST)
    edge = int(len(views) * (1 - CALIBRATING))
    older = views[:edge]
    if not older.accepted.any() or older.accepted.all():
        raise DataError(
            f"expected matured views of which some ended in {market.acceptance.event} and some did not, got"
            f" {int(older.accepted.sum())} of {edge}: wait for more, or lower matures_after_days"
        )
    matrix, affinity = matrix_of(inputs, older, towers)
    labels, types = older.accepted.astype(np.float64), inputs.types(towers is not None)
    line, margins = Platt(), None
    if affinity is not None:
        fitted = fit_calibrator("platt", affinity, labels, 0)
        assert isinstance(fitted, Platt)
        line, margins = fitted, fitted.log_odds(affinity)
    sample = Sample(matrix, labels, None, types, (0,) * len(types), margins)
    booster = fit_booster(market.model.model_copy(update={"learner": "xgboost"}), sample, seed)
    raw, later = Ranker(inputs, booster, line, Platt()), views[edge:]
    margin = raw.margins(*matrix_of(inputs, later, towers))
    return replace(raw, calibrator=calibrate(margin, later.accepted, market.calibration))


def mature(views: Views, market: Market) -> Views:
    """Leave out the views that are too young at the last one for their outcome to be known."""
    until = views.moment[-1] - market.acceptance.matures_after_days * MICROSECONDS_PER_DAY
    return views[: int(np.searchsorted(views.moment, until, side="right"))]


def newest(views: Views, number: int) -> Views:
    return views[max(0, len(views) - number) :]


def matrix_of(inputs: PairInputs, views: Views, towers: Towers | None) -> tuple[Floats, Floats | None]:
    """Build the inputs of views, shape (n, inputs), and their affinity, shape (n,), None without towers."""
    parts, affinities = [], []
    for start in range(0, len(views), BLOCK):
        part = views[start : start + BLOCK]
        products = part.product.astype(np.int64)[:, None]
        users, affinity = part.full(inputs.market.retrieval.viewed), None
        if towers is not None:
            affinity = towers.affinity_of(users, products)
            affinities.append(affinity)
        parts.append(inputs.matrix(users, products, affinity))
    if towers is None:
        return np.concatenate(parts), None
    return np.concatenate(parts), np.concatenate(affinities).ravel()
