"""A small market, simulated once for the tests of this room."""

import pytest

from offers.contract import market as markets
from offers.data.market import write_simulated
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.training import train
from offers.simulation.market import SimulatedMarket
from tests.support.markets import SmallMarket

TEXT = (
    markets.text("fintech")
    .replace("users: 20000, products: 100, days: 365", "users: 1000, products: 24, days: 365")
    .replace("segments:", "model: {trees: 40, learning_rate: 0.1}\nsegments:")
)


@pytest.fixture(scope="package")
def fintech(tmp_path_factory: pytest.TempPathFactory) -> SmallMarket:
    market = markets.parse(TEXT)
    truth, tables = SimulatedMarket(market, seed=3), tmp_path_factory.mktemp("fintech")
    write_simulated(truth, tables)
    bundle = train(TEXT, tables, tmp_path_factory.mktemp("bundles"))
    return SmallMarket(market, truth, tables, MarketBundle.load(bundle))
