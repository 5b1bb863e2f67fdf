"""A small market with its bundle, and its users in an online store."""

from pathlib import Path

import pytest

from offers.contract import market as markets
from offers.data.market import write_simulated
from offers.data.online import OnlineUsers
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.training import train
from offers.simulation.market import SimulatedMarket
from offers.store.online import SqliteOnlineStore
from tests.support.recommender import Shop


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    directory = tmp_path_factory.mktemp("market")
    text = markets.text("fintech").replace("users: 20000, products: 100,", "users: 400, products: 30,")
    text = text.replace("retrieval: {method: towers, candidates: 50}", "retrieval: {method: none}")
    market = markets.parse(text)
    write_simulated(SimulatedMarket(market, seed=4), directory)
    trained = train(text, directory, directory / "bundles")
    path = trained if isinstance(trained, Path) else trained[0]
    return Shop(MarketBundle.load(path), directory)


@pytest.fixture
def store(shop: Shop, tmp_path: Path) -> Path:
    """An online store of the market's users, as of the last moment of its history."""
    path = tmp_path / "users.db"
    with SqliteOnlineStore(path, new=True) as online:
        OnlineUsers(shop.market).load(shop.tables, online)
    return path
