"""Trains a market's models, evaluates them, and packages them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from offers.bundle.writing import evenly
from offers.contract import market as markets
from offers.contract.market import Market
from offers.data.market_rates import rates_of
from offers.data.online import OnlineUsers
from offers.errors import DataError
from offers.retrieval import gate
from offers.retrieval.evaluation import Contest
from offers.retrieval.figures import MarketEvaluation
from offers.retrieval.fitting import fit_ranker
from offers.retrieval.oracle import Oracle
from offers.retrieval.popularity import cells_of, count_views
from offers.retrieval.products import Products
from offers.retrieval.ranker import PairInputs
from offers.retrieval.towers import TowerTraining
from offers.retrieval.user_tower import Towers
from offers.retrieval.views import Views, read_views
from offers.retrieval.writing import REFERENCE_USERS, MarketModels, write

LATER = 0.2
"""Share of the views, the newest, by which the evaluation judges models that were fitted on the others."""

FEWEST = 1000
"""Views; with fewer nothing is learnt."""

MOST_RATES = 20
"""Products, the most viewed, and places, the first, whose rates the evaluation tells."""

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
        refuse_too_few(views)
        edge = edge_of(views)
        tell(f"fitting on {edge} views")
        older = views[:edge]
        towers = fit_towers(market, older, products, seed)
        ranker = fit_ranker(PairInputs(market, products), older, towers, seed)
        tell(f"judging by {len(views) - edge} later views")
        evaluation = judge(Contest(market, products, views, edge, towers, ranker, oracle, seed), directory)
        tell("fitting on all views")
        return write_bundle(market_text, views, products, evaluation, parent, seed), evaluation


def refuse_too_few(views: Views) -> None:
    """Raise `DataError` where there are too few views to learn from."""
    if len(views) < FEWEST:
        raise DataError(f"expected {FEWEST} views at least, found {len(views)}: wait for more")


def edge_of(views: Views) -> int:
    """Find the place of the first view by which models are judged that were fitted on those before."""
    return int(len(views) * (1 - LATER))


def fit_towers(market: Market, views: Views, products: Products, seed: int) -> Towers | None:
    """Fit towers; None where they are not worth a try."""
    if market.retrieval.method != "towers" or not gate.pays(len(products.ids)):
        return None
    return TowerTraining(market, products, views, seed).fit()


def judge(contest: Contest, directory: Path) -> MarketEvaluation:
    """Judge models that were fitted on the older views by the newer ones, and count clicks in the tables.

    Raises
    ------
    SourceError
        the tables can't be read
    """
    methods, ahead = contest.methods()
    products, places = rates_of(contest.market, directory)
    margin, views = contest.margin(), contest.views
    first, last = (str(views.moment[place].astype("datetime64[us]"))[:16] for place in (contest.edge, -1))
    return MarketEvaluation(
        market=contest.market.name,
        products=len(contest.products.ids),
        trained_views=contest.edge,
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
        verdict=gate.decide(contest.market, len(contest.products.ids), ahead, margin),
        product_rates=tuple(products[:MOST_RATES]),
        place_rates=tuple(places[:MOST_RATES]),
    )


def write_bundle(
    market_text: str, views: Views, products: Products, evaluation: MarketEvaluation, parent: Path, seed: int
) -> Path:
    """Fit models on all views, with towers where the gate has accepted them, and write their bundle below `parent`."""
    market = markets.parse(market_text)
    towers = fit_towers(market, views, products, seed) if evaluation.verdict.passed else None
    ranker = fit_ranker(PairInputs(market, products), views, towers, seed)
    cells = cells_of(market, OnlineUsers(market).encoder, np.asarray(views.rows))
    popularity = count_views(market, cells, views.product, views.accepted, len(products.ids))
    users = views[evenly(len(views), REFERENCE_USERS)].full(market.retrieval.viewed)
    models = MarketModels(products, ranker, popularity, towers, users)
    facts = evaluation.model_dump_json(indent=1) + "\n"
    return write(parent, market_text, models, views.data(len(products.ids)), seed, facts)
