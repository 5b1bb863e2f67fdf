"""The truth of a simulated market, as one more way of finding products."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market
from offers.data.market_tables import opened
from offers.errors import SourceError
from offers.retrieval.products import product_encoder, read_products
from offers.retrieval.user_tower import Floats
from offers.retrieval.views import Views
from offers.simulation.market import SimulatedMarket


def simulated_oracle(market: Market, directory: Path, seed: int) -> "Oracle":
    """Make the oracle of a simulated market's tables, without a shift of tastes.

    Raises
    ------
    SourceError
        the tables' products are not those of the simulated market of this seed
    """
    with opened(market, directory) as connection:
        products = read_products(market, connection)
    simulation = market.simulation.model_copy(update={"products": len(products.ids)})
    truth = SimulatedMarket(market.model_copy(update={"simulation": simulation}), seed)
    encoder = product_encoder(market)
    if not np.array_equal(encoder.encode(truth.products), products.matrix, equal_nan=True):
        raise SourceError(f"{directory}: its products are not those of the simulated market of seed {seed}")
    return Oracle(truth)


@dataclass(frozen=True, eq=False)
class Oracle:
    """Knows each user's true preferences. Tastes that shift are taken as of the first day."""

    truth: SimulatedMarket

    def utility(self, views: Views) -> Floats:
        """The true utility of all products to the users of views, shape (n_views, n_products)."""
        return np.asarray(self.truth.utility(self._ids(views)), np.float32)

    def propensity(self, views: Views) -> NDArray[np.float64]:
        """The true probability that the users of views, who look at a product, accept it; same shape."""
        market = self.truth.market
        names = [event.name for event in market.events]
        chances = self.truth.chances(self._ids(views))
        steps = names[1 : names.index(market.acceptance.event) + 1]
        return np.asarray(np.prod([chances[name] for name in steps], axis=0))

    def _ids(self, views: Views) -> NDArray[np.int64]:
        return np.array([int(one) for one in views.users.take(views.user).to_pylist()], np.int64)
