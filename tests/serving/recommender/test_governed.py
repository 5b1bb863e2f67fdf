"""A market's releases under the ledger: promoted, followed between two requests, held against each other, redone."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from offers.contract import market as markets
from offers.data.online import OnlineUsers
from offers.decisions.history import ledger_heads
from offers.errors import BundleError, CatalogueError, LedgerError, ServiceError
from offers.evaluation.gate import GateVerdict
from offers.experiments.experiment import Experiment
from offers.governance import release as releases
from offers.governance.access import open_to_write
from offers.governance.approval import approve
from offers.governance.audit import heads_in, verify
from offers.governance.comparison import differences
from offers.governance.entries import KeyAdded
from offers.governance.keys import Signer, new_key
from offers.governance.market_release import MarketRelease, load_any, make
from offers.governance.registration import register
from offers.retrieval.figures import RankerResult
from offers.retrieval.rules import rules_text, with_rules
from offers.settings import Settings
from offers.steps.registration import register_market
from offers.store.delta import DeltaTables
from offers.store.online import SqliteOnlineStore
from serving.ranker.routing import Arm, Routing
from serving.ranker.routing_source import RoutingFile
from serving.recommender.products import ProductList
from serving.recommender.served import Served
from serving.recommender.service import Recommendations
from serving.recommender.switching import MarketSwitchboard
from serving.recommender.users import Users
from tests.support.recommender import Shop
from tests.support.services import DEADLINE

NARROW = "k: 2\nrequired: [affordable]\nfamily: kind\nmost_per_family: 1\n"


def test_a_release_holds_the_bundle_and_the_rules(shop: Shop, tmp_path: Path) -> None:
    own, narrow = make(tmp_path, shop.bundle), make(tmp_path, shop.bundle, NARROW)
    assert make(tmp_path, shop.bundle).name == own.name != narrow.name
    assert own.bundle.market == shop.market
    assert narrow.bundle.market.recommendation.k == 2
    assert narrow.bundle.market.digest != shop.market.digest
    opened = load_any(narrow.path)
    assert isinstance(opened, MarketRelease)
    assert opened.bundle.name == shop.bundle.name
    differing = [(name, before, after) for name, before, after in differences(own, narrow)]
    assert differing == [("recommendation k", "10", "2"), ("recommendation most_per_family", "4", "1")]
    with pytest.raises(BundleError, match="of a market"):
        releases.load(narrow.path)
    (narrow.path / "catalogue.yaml").write_text("k: 3\n")
    with pytest.raises(BundleError, match=r"catalogue\.yaml was changed"):
        load_any(narrow.path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("k: 0\n", "line 1: k: expected at least 1, got 0"),
        ("k: 3\nplaces: 4\n", "line 2: unknown key 'places'"),
        ("k: 3\nrequired: [risk_gap]\n", "line 2: required.0: 'risk_gap' is no pair of measure"),
        ("family: region\n", "'region' is no category of role offer"),
        ("k\n", "expected keys such as"),
    ],
)
def test_wrong_rules_are_refused_by_line_and_key(text: str, reason: str) -> None:
    with pytest.raises(CatalogueError, match=reason):
        with_rules(markets.load("fintech"), text)


def test_the_contracts_own_rules_are_the_default() -> None:
    market = markets.load("fintech")
    assert with_rules(market, rules_text(market)) == market


def test_a_ranker_that_tells_nothing_is_refused(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, me = open_to_write(Settings(home=tmp_path))
    release = make(tmp_path / "releases", shop.bundle)
    assert release.bundle.verdict.passed
    none = RankerResult(views=9, accepted=0.1, mean_propensity=0.1, log_loss=0.4, base_log_loss=0.3, ece=0.0, auc=None)
    worse = release.bundle.evaluation.model_copy(update={"ranker": none})
    monkeypatch.setitem(vars(release.bundle), "evaluation", worse)
    monkeypatch.delitem(vars(release.bundle), "verdict")
    verdict: GateVerdict = release.bundle.verdict
    assert not verdict.passed
    with pytest.raises(LedgerError, match="did not pass the gate"):
        register(ledger, me, release)


def test_the_pipeline_registers_where_there_are_a_ledger_and_a_key(shop: Shop, tmp_path: Path) -> None:
    told = list[str]()
    register_market(shop.bundle.path, Settings(home=tmp_path), told.append)
    assert told == []
    ledger, _ = open_to_write(Settings(home=tmp_path))
    settings = Settings(home=tmp_path, ledger=str(tmp_path), key=next((tmp_path / "keys").glob("*.pem")))
    register_market(shop.bundle.path, settings, told.append)
    (release,) = ledger.state().releases.values()
    assert release.of_market
    assert told == [f"release {release.name}"]
    assert release.act.evidence.keys() == {"evaluation.json", "market.yaml", "catalogue.yaml"}


def test_a_routing_is_taken_up_and_one_with_other_users_changes_nothing(
    shop: Shop, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = Users(OnlineUsers(shop.market), lambda: SqliteOnlineStore(store))
    recommendations = Recommendations(Served(ProductList(shop.bundle), None), users)
    board = MarketSwitchboard(RoutingFile(tmp_path / "routing.json"), recommendations, None, None, lambda head: None)
    release = make(tmp_path, shop.bundle, NARROW)
    arm = Arm(name="champion", share=1, release=release.name, bundle=shop.bundle.name, directory=release.path)
    experiment = Experiment.model_validate(
        {"name": "e", "arms": [{"name": "a", "share": 1, "catalogue": "missing.yaml"}]}
    )

    def asked() -> int:
        answer = asyncio.run(recommendations.answer(recommendations.question("42", {})))
        return len(json.loads(answer)["offers"])

    assert asked() == 10
    # A promotion waits for no experiment.
    taken = asyncio.run(board.switch(Routing(arms=(arm,), experiments=(experiment,))))
    assert taken.experiments == ()
    assert asked() == 2
    monkeypatch.setattr(board, "_users", OnlineUsers(markets.load("fintech")))
    other = make(tmp_path, shop.bundle)
    with pytest.raises(ServiceError, match="expected users as in the contract of"):
        asyncio.run(
            board.switch(Routing(arms=(arm.model_copy(update={"release": other.name, "directory": other.path}),)))
        )
    assert asked() == 2
    users.close()


class Market:
    """A home with an online store, two releases of a market, and people who let them be promoted."""

    def __init__(self, shop: Shop, directory: Path) -> None:
        self.home, self.store = directory / "home", directory / "users.db"
        self.ledger, self.me = open_to_write(Settings(home=self.home))
        self.people = [self._person(name) for name in ("ann", "bob")]
        bundle = shop.bundle.path
        (directory / "narrow.yaml").write_text(NARROW)
        self.first = self.added(bundle)
        self.second = self.added(bundle, "--catalogue", directory / "narrow.yaml")

    def added(self, bundle: Path, *options: object) -> str:
        name = self.offers("model", "add", bundle, *options).strip().splitlines()[-1]
        for person in self.people:
            approve(self.ledger, person, name, {})
        return name

    def offers(self, *arguments: object, code: int = 0) -> str:
        command = [str(Path(sys.executable).parent / "offers"), *map(str, arguments)]
        environment = os.environ | {"OFFERS_HOME": str(self.home), "OFFERS_TRACKING": "off"}
        told = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE, check=False)
        assert told.returncode == code, told.stderr + told.stdout
        return told.stdout

    def _person(self, name: str) -> Signer:
        person = new_key(self.home / "keys" / f"{name}.pem")
        act = KeyAdded(key=person.public.id, public=person.public.text, name=name, roles=("approver",))
        self.ledger.write(self.me, lambda state: act)
        return person

    @contextmanager
    def served(self) -> Iterator[httpx.Client]:
        command = [str(Path(sys.executable).parent / "offers"), "market", "serve", "--port", "0", "--store"]
        log = self.home.parent / "serve.txt"
        environment = os.environ | {"OFFERS_HOME": str(self.home)}
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, str(self.store)], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition("/recommend/")[0]
            assert url, log.read_text()
            with httpx.Client(base_url=url, trust_env=False, timeout=DEADLINE) as client:
                yield client
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0, log.read_text()
        finally:
            process.kill()
            process.communicate()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_market_is_promoted_followed_compared_and_redone(shop: Shop, store: Path, tmp_path: Path) -> None:
    market = Market(shop, tmp_path)
    assert "promoted" in market.offers("model", "promote", market.first)
    assert "log-loss" in market.offers("model", "show", market.first)

    def asked(client: httpx.Client, user: int) -> dict[str, Any]:
        answer = client.get(f"/recommend/{user}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    with market.served() as client:
        assert len(asked(client, 42)["offers"]) == 10
        market.offers("model", "promote", market.second)
        assert [offer["rank"] for offer in asked(client, 42)["offers"]] == [1, 2]
        market.offers("model", "rollback", "-c", "fintech", "--reason", "a drill")
        assert len(asked(client, 42)["offers"]) == 10
        assert f'release="{market.first}"' in client.get("/metrics").text

        own = market.ledger.state().releases[market.second].act.bundle
        directory = market.home.resolve() / "releases" / market.second
        experiment = {
            "name": "narrow",
            "arms": [
                {"name": "few", "share": 0.5, "catalogue": str(directory / "catalogue.yaml")},
                {"name": "dark", "share": 0.5, "shadow": True, "bundle": own, "directory": str(directory)},
            ],
        }
        file, routing = tmp_path / "narrow.experiment.yaml", market.home / "recommend" / "routing.json"
        file.write_text(json.dumps(experiment))
        market.offers("experiment", "start", file, "--routing", routing)
        until(lambda: "narrow/few" in client.get("/metrics").text)
        places = {user: len(asked(client, user)["offers"]) for user in range(100)}
        assert 30 < list(places.values()).count(2) < 70
        until(lambda: "offers_shadow_rows_total" in client.get("/metrics").text)
        assert places == {user: len(asked(client, user)["offers"]) for user in range(100)}
        assert 'offers_shadow_rows_total{arm="dark",experiment="narrow",first="same"}' in client.get("/metrics").text

    told = market.offers("experiment", "report", file)
    assert "few" in told
    assert "control" in told
    assert "0 came out otherwise" in market.offers("decisions", "redo")
    again = market.offers("decisions", "redo", "--bundle", shop.bundle.path)
    assert f"scored again by {shop.bundle.name}, to the last bit" in again
    tables = DeltaTables.at(str(market.home / "tables"), Settings())
    heads = heads_in(" ".join(ledger_heads(tables)))
    assert len(heads) >= 3
    assert verify(market.ledger.store, heads).holds


@pytest.mark.slow
def test_a_canary_of_a_market_answers_its_share(shop: Shop, store: Path, tmp_path: Path) -> None:
    market = Market(shop, tmp_path)
    market.offers("model", "promote", market.first)
    with market.served() as client:
        market.offers("model", "canary", market.second, "--steps", "50", "--bake", "1h")
        until(lambda: "/challenger" in client.get("/metrics").text)
        places = [len(client.get(f"/recommend/{user}").json()["offers"]) for user in range(60)]
        assert 10 < places.count(2) < 50
        market.offers("model", "rollback", "-c", "fintech", "--reason", "a drill")
        until(lambda: "/challenger" not in client.get("/metrics").text)
        assert len(client.get("/recommend/7").json()["offers"]) == 10
