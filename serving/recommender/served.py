"""What answers: a bundle with the rules of its release, the products of now, and how its decisions are logged."""

import numpy as np
from numpy.typing import NDArray

from offers.retrieval.bundle import MarketBundle
from offers.retrieval.recommendation import Recommender
from serving.ranker.decision_log import DecisionLog
from serving.recommender.decisions import Decisions
from serving.recommender.metrics import PLACE_SHOWN, SHOWN
from serving.recommender.products import ProductList


class Served:
    """A market's bundle as it answers now.

    Attributes
    ----------
    products : which may be recommended
    bundle : the bundle, with the products of now
    recommender : chooses
    decisions : logs
    """

    bundle: MarketBundle
    recommender: Recommender
    decisions: Decisions

    def __init__(self, products: ProductList, log: DecisionLog | None) -> None:
        self.products, self._log = products, log
        self._follow()

    def available(self) -> NDArray[np.bool_]:
        """Say for each product whether it may be recommended now; takes up products that are new."""
        available = self.products.available()
        if self.products.bundle is not self.bundle:
            self._follow()
        return available

    def count(self, places: NDArray[np.int64]) -> None:
        """Count the products of an answer, and their places."""
        for place, one in enumerate(places.tolist(), 1):
            SHOWN.labels(self.bundle.product_ids[one]).inc()
            _PLACES[min(place, len(_PLACES)) - 1].inc()

    def _follow(self) -> None:
        self.bundle = self.products.bundle
        self.recommender = Recommender(self.bundle)
        self.decisions = Decisions(self.bundle, self.recommender.policy, self._log)


_PLACES = [PLACE_SHOWN.labels(str(place)) for place in range(1, 21)] + [PLACE_SHOWN.labels("beyond")]
