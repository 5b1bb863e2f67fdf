"""Drift of preferences: whether users still look at what a bundle expects them to look at, window by window."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from offers.retrieval.bundle import MarketBundle
from offers.retrieval.nearest import highest
from offers.retrieval.views import Views

K = 10
MOST_VIEWS = 2000
"""Views of a window that are looked at, spread evenly over it."""

ALARM = 4.0
"""Standard errors by which a window has to fall below those before it."""

_DAY = 86_400_000_000


@dataclass(frozen=True)
class PreferenceWindow:
    """One window.

    Attributes
    ----------
    start : the moment at which it begins
    views : how many were looked at
    hits : the share of views of one of the K products that the bundle expects the user to like best
    z : the difference to the windows before, in standard errors; None for the first
    """

    start: np.datetime64
    views: int
    hits: float
    z: float | None

    @property
    def alarm(self) -> bool:
        return self.z is not None and self.z < -ALARM


def preference_windows(bundle: MarketBundle, views: Views, days: float = 30.0) -> Iterator[PreferenceWindow]:
    """Compare what users look at with what the bundle expects, in windows of so many days.

    Products are ranked by the towers' affinity, or by propensity where there are no towers. A window is compared with
    all before it that gave no alarm, by the z-statistic of two proportions.

    Parameters
    ----------
    views : of products of the bundle, as places in its list, in the order of their moments
    """
    moments = np.asarray(views.moment)
    edges = np.arange(moments[0], moments[-1] + 1, round(days * _DAY)) if len(moments) else np.empty(0)
    number = hits_before = 0.0
    for start in edges:
        first, last = np.searchsorted(moments, [start, start + round(days * _DAY)])
        places = np.unique(np.linspace(first, last - 1, min(MOST_VIEWS, last - first)).astype(np.int64))
        if not len(places):
            continue
        hits = _hits(bundle, views[places].full(bundle.market.retrieval.viewed), np.asarray(views.product[places]))
        share, z = float(hits.mean()), None
        if number:
            pooled = (hits_before + hits.sum()) / (number + len(hits))
            error = sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / number + 1 / len(hits)))
            z = (share - hits_before / number) / error
        window = PreferenceWindow(np.datetime64(int(start), "us"), len(hits), share, z)
        if not window.alarm:
            number, hits_before = number + len(hits), hits_before + float(hits.sum())
        yield window


def _hits(bundle: MarketBundle, users: np.ndarray, products: np.ndarray) -> np.ndarray:
    if bundle.towers is not None:
        best = highest(bundle.affinity(users), K)
    else:
        places = np.tile(np.arange(len(bundle.product_ids)), (len(users), 1))
        best = highest(bundle.propensity(users, places), K)
    return np.asarray((best == products[:, None]).any(axis=1))
