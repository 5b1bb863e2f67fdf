"""The steps of the pipeline of a market, from files to files: tables, features, towers, ranker, evaluation, bundle.

Each step is a process of its own, so each function imports only what it needs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offers import files
from offers.contract import market as markets
from offers.errors import SourceError
from offers.record import Record
from offers.settings import Settings
from offers.wording import Say, counted

if TYPE_CHECKING:
    from offers.contract.market import Market
    from offers.evaluation.gate import GateVerdict
    from offers.retrieval.figures import MarketEvaluation
    from offers.retrieval.oracle import Oracle

SIMULATED, EVALUATION, TRUTH = "simulated", "evaluation.json", "truth.json"


class Truth(Record):
    """The seed of a simulated market, beside its tables."""

    seed: int


@dataclass(frozen=True)
class Inputs:
    """The directories that the evaluation reads."""

    tables: Path
    views: Path
    towers: Path
    ranker: Path


def import_tables(contract_text: str, source: str, tables: Path, settings: Settings, say: Say = print) -> None:
    """Bring the three tables of a market.

    Parameters
    ----------
    source : a directory or s3:// URI that holds them, or `simulated`, which may end in a seed: simulated:7

    Raises
    ------
    SourceError
        the source is none of these, or a table is missing
    """
    from offers.data.market_tables import fetch_tables

    market = markets.load(contract_text)
    if source.partition(":")[0] == SIMULATED:
        from offers.data.market import write_simulated
        from offers.simulation.market import SimulatedMarket

        seed = _seed(source)
        users, interactions = write_simulated(SimulatedMarket(market, seed), tables)
        files.save(tables, TRUTH, Truth(seed=seed))
        say(f"{users} users and {interactions} interactions, simulated")
        return
    fetch_tables(market, source, tables, settings)
    say(f"the tables of {source}")


def write_features(contract_text: str, tables: Path, views: Path, say: Say = print) -> int:
    """Write the views of a market with what was known of the user at each; returns their number."""
    from offers.retrieval.training import refuse_too_few
    from offers.retrieval.views import open_views, write_views

    market = markets.load(contract_text)
    views.mkdir(parents=True, exist_ok=True)
    number = write_views(market, tables, views)
    refuse_too_few(open_views(market, views)[0])
    say(counted(number, "view"))
    return number


def train_towers(contract_text: str, views: Path, towers: Path, seed: int, say: Say = print) -> None:
    """Fit towers on the older views; the directory stays empty where they are not worth a try."""
    from offers.retrieval.model_files import save_towers
    from offers.retrieval.training import edge_of, fit_towers
    from offers.retrieval.views import open_views

    market = markets.load(contract_text)
    every, products = open_views(market, views)
    towers.mkdir(parents=True, exist_ok=True)
    fitted = fit_towers(market, every[: edge_of(every)], products, seed)
    save_towers(fitted, towers)
    say(f"towers of {counted(edge_of(every), 'view')}" if fitted else "no towers: the ranker scores all products")


def train_ranker(contract_text: str, views: Path, towers: Path, ranker: Path, seed: int, say: Say = print) -> None:
    """Fit the ranker on the older views."""
    from offers.retrieval.fitting import fit_ranker
    from offers.retrieval.model_files import load_towers, save_ranker
    from offers.retrieval.ranker import PairInputs
    from offers.retrieval.training import edge_of
    from offers.retrieval.views import open_views

    market = markets.load(contract_text)
    every, products = open_views(market, views)
    ranker.mkdir(parents=True, exist_ok=True)
    older = every[: edge_of(every)]
    save_ranker(fit_ranker(PairInputs(market, products), older, load_towers(towers), seed), ranker)
    say(f"calibrated trees of {counted(len(older), 'view')}")


def evaluate_market(
    contract_text: str, inputs: Inputs, result: Path, seed: int, say: Say = print
) -> "MarketEvaluation":
    """Judge towers and ranker by the later views, beside simpler ways, and beside the truth of a simulated market."""
    from offers.retrieval.evaluation import Contest
    from offers.retrieval.model_files import load_ranker, load_towers
    from offers.retrieval.training import edge_of, judge
    from offers.retrieval.views import open_views

    market = markets.load(contract_text)
    every, products = open_views(market, inputs.views)
    oracle = _oracle(market, inputs.tables) if (inputs.tables / TRUTH).exists() else None
    models = load_towers(inputs.towers), load_ranker(inputs.ranker, market, products)
    contest = Contest(market, products, every, edge_of(every), *models, oracle, seed)
    evaluation = judge(contest, inputs.tables)
    files.save(result, EVALUATION, evaluation)
    say(f"judged by {counted(evaluation.views, 'later view')}")
    return evaluation


def gate_market(contract_text: str, result: Path, verdict: Path, page: Path, say: Say = print) -> "GateVerdict":
    """Say whether towers find the candidates, or the ranker scores all products, and write the run's report."""
    from offers.reports.market import headline, market_report
    from offers.retrieval.figures import MarketEvaluation

    evaluation = files.read(result, EVALUATION, MarketEvaluation)
    verdict.write_text(evaluation.verdict.model_dump_json(indent=1) + "\n", "utf-8")
    page.write_text(market_report(markets.load(contract_text), evaluation), "utf-8")
    say(headline(evaluation))
    return evaluation.verdict


def package_market(
    contract_text: str, views: Path, result: Path, directory: Path, publish: str, seed: int, settings: Settings,
    say: Say = print,
) -> str:  # fmt: skip
    """Fit on all views as the gate decided, write the bundle, publish it below `publish` where one is named, and
    register it where the settings name a ledger and a key.

    Returns
    -------
    str
        the bundle's name
    """
    from offers.retrieval.figures import MarketEvaluation
    from offers.retrieval.training import write_bundle
    from offers.retrieval.views import open_views
    from offers.steps.registration import register_market
    from offers.store import store

    text = markets.text(contract_text)
    every, products = open_views(markets.parse(text), views)
    evaluation = files.read(result, EVALUATION, MarketEvaluation)
    path = write_bundle(text, every, products, evaluation, directory, seed)
    if publish:
        store.open_store(publish, settings).put_directory(path, path.name)
    register_market(path, settings, say)
    say(f"bundle {path.name}")
    return path.name


def load_users(contract_text: str, tables: Path, online: str, say: Say = print) -> int:
    """Put the users of a market into an online store, as of the newest interaction; returns their number.

    Parameters
    ----------
    online : of the store, in which ${NAME} or ${file:PATH} stands for a password
    """
    from contextlib import closing

    from offers.contract import secret
    from offers.data.online import OnlineUsers
    from offers.store.online import open_online_store

    users, place = OnlineUsers(markets.load(contract_text)), secret.opened(online)
    with place.errors(), closing(open_online_store(place.uri, new=True)) as store:
        count, moment = users.load(tables, store)
    say(f"{counted(count, 'user')} online as of {moment}")
    return count


def _seed(source: str) -> int:
    seed = source.partition(":")[2] or "0"
    if not seed.isdecimal():
        raise SourceError(f"source {source!r}: expected simulated, or simulated:SEED with a whole number")
    return int(seed)


def _oracle(market: "Market", tables: Path) -> "Oracle":
    from offers.retrieval.oracle import simulated_oracle

    return simulated_oracle(market, tables, files.read(tables, TRUTH, Truth).seed)
