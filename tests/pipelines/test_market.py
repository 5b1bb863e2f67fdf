"""The training pipeline of a market: what Kubeflow is told of it, and the same graph on this machine."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from cli.market_graph import is_market, subject_of
from cli.market_service import ask_for_training
from cli.retrain import _arguments as retraining
from cli.submission import _arguments
from offers.contract import market as markets
from offers.data.market import write_simulated
from offers.data.online import OnlineUsers
from offers.errors import ServiceError, SourceError, StorageError
from offers.retraining.journal import Decision, Request
from offers.retraining.retrainer import Retrainer
from offers.retrieval.drift import PreferenceWindow
from offers.retrieval.oracle import Oracle
from offers.retrieval.training import train
from offers.settings import Settings
from offers.simulation.market import SimulatedMarket
from offers.steps.market import import_tables, load_users
from offers.store.online import SqliteOnlineStore
from offers.store.s3 import make_bucket
from offers.store.store import open_store
from pipelines.compilation import compile_pipeline
from pipelines.starting import _asked as asked
from pipelines.trigger import Authority
from tests.support.ledgers import journal_at
from tests.support.markets import small_market
from tests.support.seaweedfs import seaweedfs
from tests.support.trigger import Starts, served

SHOP = small_market(users=600, products=24)
OPTIONS = {"source": "s3://offers/markets/shop", "publish": "s3://offers/bundles"}


def test_the_graph_follows_features_towers_ranker_evaluation_gate(tmp_path: Path) -> None:
    file = compile_pipeline("market-training", tmp_path / "market.yaml")
    spec, platform = yaml.safe_load_all(file.read_text())
    tasks = spec["root"]["dag"]["tasks"]
    after = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}
    assert after == {
        "ingest": set(),
        "features": {"ingest"},
        "towers": {"features"},
        "ranker": {"features", "towers"},
        "evaluate": {"ingest", "features", "towers", "ranker"},
        "gate": {"evaluate"},
        "package": {"features", "evaluate", "gate"},
        "condition-1": {"ingest"},
    }
    assert set(spec["components"]["comp-condition-1"]["dag"]["tasks"]) == {"load"}
    executors = spec["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} == {"offers-market-python:dev"}
    places = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {name for name, place in places.items() if "secretAsVolume" in place} == {"exec-load", "exec-package"}
    (key,) = places["exec-package"]["secretAsVolume"]
    assert (key["secretName"], key["optional"]) == ("ledger-key", True)
    assert all(place["securityContext"]["runAsNonRoot"] for place in places.values())


def test_a_cluster_is_given_places_that_its_pods_reach(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP)
    name, arguments = _arguments(
        "market-training", str(tmp_path / "shop.yaml"), dict(OPTIONS), ["online=redis://store/0"]
    )
    assert name == "market-training-fintech"
    assert arguments == {**OPTIONS, "market": SHOP, "online": "redis://store/0"}
    with pytest.raises(StorageError, match="expected the s3:// URI of the market's tables, or simulated"):
        _arguments("market-training", "fintech", OPTIONS | {"source": str(tmp_path)}, [])
    with pytest.raises(StorageError, match="--publish"):
        _arguments("market-training", "fintech", OPTIONS | {"publish": ""}, [])


def test_tables_come_from_the_object_store_and_users_go_online_with_a_secret(tmp_path: Path) -> None:
    market = markets.parse(SHOP)
    write_simulated(SimulatedMarket(market, 3), tmp_path / "tables")
    (tmp_path / "seaweedfs").mkdir()
    with seaweedfs(tmp_path / "seaweedfs") as s3:
        settings = Settings(s3=s3)
        make_bucket("offers", s3)
        store = open_store("s3://offers/markets/shop", settings)
        for path in (tmp_path / "tables").iterdir():
            store.write_bytes(path.name, path.read_bytes())
        import_tables(SHOP, "s3://offers/markets/shop", tmp_path / "here", settings)
        with pytest.raises(SourceError, match="markets/none/users"):
            import_tables(SHOP, "s3://offers/markets/none", tmp_path / "none", settings)
    for path in (tmp_path / "tables").iterdir():
        assert (tmp_path / "here" / path.name).read_bytes() == path.read_bytes()
    (tmp_path / "place").write_text(str(tmp_path / "users.db"))
    assert load_users(SHOP, tmp_path / "here", f"${{file:{tmp_path / 'place'}}}") == 600
    now = np.datetime64("2026-01-01", "us")
    with SqliteOnlineStore(tmp_path / "users.db") as online:
        assert OnlineUsers(market).read(online, ["7"], now).moments[0] < now


def test_preferences_that_changed_start_a_training_once(tmp_path: Path) -> None:
    starts, journal, bundle = Starts(), journal_at(tmp_path, "fintech"), "fintech-0123456789abcdef"
    window = PreferenceWindow(np.datetime64("2025-12-01", "us"), 2000, 0.31, -42.0)
    with served(Retrainer(journal, starts), Authority(served=lambda: bundle)) as client:
        told = [ask_for_training(str(client.base_url), bundle, window) for _ in range(2)]
        assert told == [f"started {starts[0]}"] * 2
        with pytest.raises(ServiceError, match="expected fintech-0123456789abcdef, which is served"):
            ask_for_training(str(client.base_url), "fintech-fedcba9876543210", window)
    (decision,) = journal.entries()
    assert isinstance(decision, Decision)
    assert (len(starts), decision.request.cause, decision.request.action) == (1, "alarm", "retrain")
    assert "0.310 of the views since 2025-12-01" in decision.reason


def test_what_a_market_asks_for_is_its_own_pipeline_with_its_own_arguments(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP)
    for contract, name in ((str(tmp_path / "shop.yaml"), "fintech"), ("bank-marketing", "bank-marketing")):
        assert (subject_of(contract), is_market(contract)) == (name, name == "fintech")
    arguments = retraining(str(tmp_path / "shop.yaml"), str(tmp_path), "", "users.db", Settings(home=tmp_path))
    places = {"source": str(tmp_path), "publish": str(tmp_path / "bundles"), "online": "users.db"}
    assert arguments == {"market": SHOP, **places}
    alarm = Request(id="a", contract="fintech", cause="alarm")
    assert asked(alarm, arguments, Settings()) == ("market-training", arguments)
    with pytest.raises(ServiceError, match="trained anew"):
        asked(Request(id="b", contract="fintech", cause="manual", action="update"), arguments, Settings())
    with pytest.raises(SourceError, match="--source"):
        retraining("fintech", "", "", "", Settings())
    with pytest.raises(StorageError, match="s3:// URI of the market's tables"):
        retraining("fintech", str(tmp_path), "", "", Settings(), on_cluster=True)
    with pytest.raises(ServiceError, match="--online"):
        retraining("bank-marketing", "", "", "users.db", Settings())


@pytest.mark.slow
@pytest.mark.usefixtures("same_commit")
def test_the_graph_makes_the_bundle_that_the_library_makes(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFERS_HOME", str(tmp_path / "home"))
    (tmp_path / "shop.yaml").write_text(SHOP)
    truth = SimulatedMarket(markets.parse(SHOP), 3)
    write_simulated(truth, tmp_path / "tables")
    ours, _ = train(SHOP, tmp_path / "tables", tmp_path / "ours", oracle=Oracle(truth))
    arguments = ("--market", tmp_path / "shop.yaml", "--bundles", tmp_path / "theirs", "--graph")
    code, printed, complaint = offers("market", "train", "simulated:3", *arguments)
    assert (code, complaint) == (0, "")
    assert "Retrieval does not pay with 24 products" in printed
    (theirs,) = (tmp_path / "theirs").iterdir()
    facts = [json.loads((bundle / "manifest.json").read_bytes())["files"] for bundle in (ours, theirs)]
    differing = {name for name in facts[0] if facts[0][name] != facts[1].get(name)}
    # The evaluation tells how long things took.
    assert differing <= {"evaluation.json"}
