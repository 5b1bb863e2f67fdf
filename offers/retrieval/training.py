"""Trains a market's models, and packages them."""

from pathlib import Path

import numpy as np

from offers.bundle.writing import evenly
from offers.contract import market as markets
from offers.contract.market import Market
from offers.data.online import OnlineUsers
from offers.retrieval.fitting import fit_ranker
from offers.retrieval.popularity import cells_of, count_views
from offers.retrieval.products import Products
from offers.retrieval.ranker import PairInputs
from offers.retrieval.views import Views, read_views
from offers.retrieval.writing import REFERENCE_USERS, MarketModels, write


def train(market_text: str, directory: Path, parent: Path, seed: int = 0) -> Path:
    """Train the models of a market on its tables, and write their bundle below `parent`.

    Parameters
    ----------
    market_text : the contract of the market, as YAML
    directory : where the tables are

    Returns
    -------
    Path
        the bundle's directory
    """
    market = markets.parse(market_text)
    with read_views(market, directory) as (views, products):
        models = _fit(market, views, products, seed)
        return write(parent, market_text, models, views.data(len(products.ids)), seed, "{}\n")


def _fit(market: Market, views: Views, products: Products, seed: int) -> MarketModels:
    encoder = OnlineUsers(market).encoder
    cells = cells_of(market, encoder, np.asarray(views.rows))
    popularity = count_views(market, cells, views.product, views.accepted, len(products.ids))
    ranker = fit_ranker(PairInputs(market, products), views, None, seed)
    users = np.array(views.rows[evenly(len(views), REFERENCE_USERS)])
    return MarketModels(products, ranker, popularity, None, users)
