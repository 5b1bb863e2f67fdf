"""Trains a market's models, evaluates them, and packages them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from offers.bundle.writing import evenly
from offers.contract import market as markets
from offers.contract.market import Market
from offers.data.online import OnlineUsers
from offers.errors import DataError
from offers.retrieval import gate
from offers.retrieval.evaluation import Contest
from offers.retrieval.figures import MarketEvaluation
from offers.retrieval.fitting import fit_ranker
from offers.retrieval.oracle import Oracle
from offers.retrieval.popularity import cells_of, count_views
from offers.retrieval.products import Products
from offers.retrieval.ranker import PairInputs, Ranker
from offers.retrieval.towers import TowerTraining
from offers.retrieval.user_tower import Towers
from offers.retrieval.views import Views, read_views
from offers.retrieval.writing import REFERENCE_USERS, MarketModels, write

LATER = 0.2
"""Share of the views, the newest, by which the evaluation judges models that were fitted on the others."""

FEWEST = 1000
"""Views; with fewer nothing is learnt."""

Tell = Callable[[str], object]


def train(
    market_text: str,
    directory: Path,
    parent: Path,
    seed: int = 0,
    oracle: Oracle | None = None,
    tell: Tell = lambda line: None,
) -> tuple[Path, MarketEvaluation]:
    """Train the models of a market on its tables, and write their bundle below `parent`.

    The evaluation's models are fitted on the older views. If the gate accepts them, towers and ranker are fitted anew
    on all views; if it refuses the towers, the ranker scores all products.

    Parameters
    ----------
    market_text : the contract of the market, as YAML
    directory : where the tables are
    oracle : the truth, where the market is simulated
    tell : is told of progress

    Returns
    -------
    Path
        the bundle's directory
    MarketEvaluation

    Raises
    ------
    DataError
        there are too few views, or too few that ended in an acceptance
    """
    market = markets.parse(market_text)
    tell("reading views")
    with read_views(market, directory) as (views, products):
        if len(views) < FEWEST:
            raise DataError(f"{directory}: expected {FEWEST} views at least, found {len(views)}: wait for more")
        evaluation = evaluate(market, views, products, seed, oracle, tell)
        tell("fitting on all views")
        towers, ranker = _fit(market, views, products, seed, evaluation.verdict.passed)
        cells = cells_of(market, OnlineUsers(market).encoder, np.asarray(views.rows))
        popularity = count_views(market, cells, views.product, views.accepted, len(products.ids))
        users = np.array(views.rows[evenly(len(views), REFERENCE_USERS)])
        models = MarketModels(products, ranker, popularity, towers, users)
        facts = evaluation.model_dump_json(indent=1) + "\n"
        return write(parent, market_text, models, views.data(len(products.ids)), seed, facts), evaluation


def evaluate(
    market: Market, views: Views, products: Products, seed: int, oracle: Oracle | None, tell: Tell
) -> MarketEvaluation:
    """Fit models on the older views, and judge them by the newer ones."""
    edge = int(len(views) * (1 - LATER))
    wanted = market.retrieval.method == "towers" and gate.pays(len(products.ids))
    tell(f"fitting on {edge} views")
    towers, ranker = _fit(market, views[:edge], products, seed, wanted)
    tell(f"judging by {len(views) - edge} later views")
    contest = Contest(market, products, views, edge, towers, ranker, oracle, seed)
    methods, ahead = contest.methods()
    margin = contest.margin()
    first, last = (str(views.moment[place].astype("datetime64[us]"))[:16] for place in (edge, -1))
    return MarketEvaluation(
        market=market.name,
        products=len(products.ids),
        trained_views=edge,
        views=len(contest.later),
        users=len(np.unique(contest.later.user)),
        cold_users=float(contest.cold[np.unique(contest.later.user)].mean()),
        new_products=int(contest.new.sum()),
        since=first,
        until=last,
        methods=methods,
        ahead=ahead,
        ranker=contest.ranked(),
        margin=margin,
        verdict=gate.decide(market, len(products.ids), ahead, margin),
    )


def _fit(market: Market, views: Views, products: Products, seed: int, wanted: bool) -> tuple[Towers | None, Ranker]:
    towers = TowerTraining(market, products, views, seed).fit() if wanted else None
    return towers, fit_ranker(PairInputs(market, products), views, towers, seed)
