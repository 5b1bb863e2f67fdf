"""Two small markets, simulated once for the tests of this room: one with towers, one with too few products for them."""

from pathlib import Path

import pytest

from offers.contract import market as markets
from offers.data.market import write_simulated
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.oracle import Oracle
from offers.retrieval.training import train
from offers.simulation.market import SimulatedMarket
from tests.support.markets import SmallMarket, small_market


@pytest.fixture(scope="package")
def fintech(tmp_path_factory: pytest.TempPathFactory) -> SmallMarket:
    """Users with few views each, of whom columns tell more than history does."""
    return _trained(tmp_path_factory.mktemp("fintech"), small_market(users=5000, products=100, views=8))


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> SmallMarket:
    return _trained(tmp_path_factory.mktemp("shop"), small_market(users=1000, products=24))


def _trained(directory: Path, text: str) -> SmallMarket:
    market = markets.parse(text)
    truth = SimulatedMarket(market, seed=3)
    write_simulated(truth, directory)
    bundle, evaluation = train(text, directory, directory / "bundles", oracle=Oracle(truth))
    return SmallMarket(market, text, truth, directory, MarketBundle.load(bundle), evaluation)
