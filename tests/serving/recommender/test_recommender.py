"""The recommender as its callers meet it: a process, over HTTP, with an online store that may be away."""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import httpx
import numpy as np
import pandas as pd
import pytest
from jsonschema_rs import Draft202012Validator
from typer.testing import CliRunner

from cli import decisions
from offers.data.online import OnlineUsers
from offers.decisions import history
from offers.decisions.pseudonym import Pseudonyms
from offers.decisions.records import DECISIONS, INTERACTIONS
from offers.decisions.segment import occupied
from offers.decisions.shipping import ship
from offers.errors import StorageError
from offers.retrieval.recommendation import Recommender
from offers.retrieval.reproduction import policy_of, redo
from offers.settings import Settings
from offers.store.delta import DeltaTables
from offers.store.online import SqliteOnlineStore, open_online_store
from serving.recommender.decisions import Unavailable
from serving.recommender.products import ProductList
from serving.recommender.served import Served
from serving.recommender.service import Recommendations
from serving.recommender.users import Users
from tests.support.recommender import Shop
from tests.support.redis_server import RedisServer
from tests.support.services import Service, command, serving


@pytest.fixture(scope="module")
def running(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    with SqliteOnlineStore(directory / "users.db", new=True) as online:
        OnlineUsers(shop.market).load(shop.tables, online)
    Pseudonyms.at(directory / "key")
    shutil.copy(shop.tables / "products.csv", directory)
    arguments = (
        "--bundle", shop.bundle.path, "--store", directory / "users.db", "--products", directory / "products.csv",
        "--events", directory / "events", "--spool", directory / "spool", "--pseudonym_key", directory / "key",
        "--seal_seconds", 0.1,
    )  # fmt: skip
    with serving("serving.recommender", directory / "log", *arguments, grpc=False) as service:
        yield service


def started(log: Path, *arguments: object) -> tuple[subprocess.Popen[str], Service]:
    """Start a recommender that is to be killed."""
    call = command("serving.recommender", *arguments, "--http_port", 0)
    with log.open("w") as errors:
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    bound = json.loads(process.stdout.readline())
    return process, Service(process, bound["http_port"], 0, log)


def get(service: Service, path: str, **query: Any) -> dict[str, Any]:
    answer = httpx.get(service.url + path, params=query, timeout=30)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def post(service: Service, *events: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(service.url + "/v1/events", json={"events": events}, timeout=30)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def click(number: object, user: str, product: str, **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "user_id": user, "product_id": product, "event": "click"} | more


def counted(service: Service, pattern: str) -> float:
    text = httpx.get(service.url + "/metrics").text
    return sum(float(value) for value in re.findall(rf"^{pattern} ([\d.e+-]+)$", text, re.MULTILINE))


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {offer["offer_id"]: offer["score"] for offer in (*answer["offers"], *answer["withheld"])}


def test_a_user_gets_the_products_of_highest_value_within_the_rules(running: Service, shop: Shop) -> None:
    answer = get(running, "/recommend/42", k=8, explain=True, withheld=True)
    assert (answer["ground"], answer["fallback"], answer["user_id"]) == ("ranked", False, "42")
    assert answer["versions"]["model"] == shop.bundle.name
    order = [offer["score"] for offer in answer["offers"]]
    assert order == sorted(order, reverse=True)
    kinds = dict(zip(shop.bundle.product_ids, shop.bundle.product_columns["kind"], strict=True))
    families = Counter(kinds[offer["offer_id"]] for offer in answer["offers"])
    assert max(families.values()) <= 4
    needed = dict(zip(shop.bundle.product_ids, shop.bundle.product_columns["income_needed"], strict=True))
    income = pd.read_parquet(shop.tables / "users.parquet").set_index("user_id").income
    (own,) = income[income.index.astype(str) == "42"]
    refused = {o["offer_id"] for o in answer["withheld"] if o["reasons"][0]["code"] == "REQUIRED:affordable"}
    launched = shop.bundle.products.launched <= np.datetime64("now")
    assert refused == {one for one, there in zip(needed, launched, strict=True) if there and needed[one] > own}
    assert all("the log-odds by" in offer["reasons"][1] for offer in answer["offers"])
    assert [offer["action_probability"] for offer in answer["offers"]][:2] == [1.0, 0.0]
    assert len(scores(answer)) == launched.sum()
    counts = Counter(reason["code"] for offer in answer["withheld"] for reason in offer["reasons"])
    assert answer["withheld_by_reason"] == counts
    short = get(running, "/recommend/42", k=8)
    assert (short["withheld"], short["withheld_by_reason"]) == ([], counts)


def test_reasons_are_told_in_words(running: Service, shop: Shop) -> None:
    sentences = [
        sentence
        for user in ("42", "7", "8")
        for offer in get(running, f"/recommend/{user}", k=30, explain=True)["offers"]
        for sentence in offer["reasons"][1:]
    ]
    words = {column.name: (*column.values, "missing") for column in shop.market.columns if column.values}
    told = {name: value for one in sentences for name, value in re.findall(r"^(\w+) \((.*?)\)", one) if name in words}
    assert told
    assert all(value in words[name] for name, value in told.items())
    assert not any(re.match(r"(affordable|home_owner) \((0|1)\)", one) for one in sentences)


def test_a_click_is_seen_by_the_next_answers_within_a_second(running: Service) -> None:
    before = scores(get(running, "/recommend/7", withheld=True))
    product = next(iter(before))
    assert post(running, click(1, "7", product, position=1)) == {"logged": 1, "left_out": {}}
    until(lambda: counted(running, 'offers_market_events_total{treatment="taken"}') >= 1)
    assert scores(get(running, "/recommend/7", withheld=True)) != before
    assert counted(running, r'offers_event_lag_seconds_bucket{le="1.0"}') >= 1
    assert counted(running, rf'offers_product_events_total{{event="click",product="{product}"}}') == 1
    assert counted(running, r'offers_place_events_total{event="click",place="1"}') == 1


def test_an_event_that_can_not_count_is_kept_and_counted(running: Service, shop: Shop) -> None:
    product = shop.bundle.product_ids[0]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    items = [
        click("a", "8", product),
        click("a", "8", product),
        click("b", "no one", product),
        click("c", "8", product, at="2020-01-01T00:00"),
        click("d", "8", product, at=later),
        click("e", "8", "no product"),
        click("f", "8", product) | {"event": "purchase"},
    ]
    names = ("twice", "unknown_user", "covered", "future", "unknown_product", "unknown_event")

    def treatments() -> list[float]:
        return [counted(running, f'offers_market_events_total{{treatment="{name}"}}') for name in names]

    before = treatments()
    left_out = {"future": 1, "unknown_product": 1, "unknown_event": 1}
    assert post(running, *items) == {"logged": 7, "left_out": left_out}
    until(lambda: treatments() == [value + 1 for value in before])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/recommend/42?k=0", 400),
        ("/recommend/42?k=-1", 400),
        ("/recommend/42?k=10000", 400),
        ("/recommend/42?k=ten", 400),
        ("/recommend/42?k=5&k=6", 400),
        ("/recommend/42?explain=perhaps", 400),
        ("/recommend/42?region=moon", 400),
        ("/recommend/42?colour=red", 400),
        ("/recommend/" + "x" * 300, 400),
        ("/recommend/a%00b", 400),
        ("/recommend/", 400),
        ("/recommend", 404),
        ("/recommend/a%2Fb/c", 200),
        ("/recommend/%C3%BC%F0%9F%99%82", 200),
        ("/recommend/%ff%fe", 200),
        ("/recommend/..%2F..%2Fetc", 200),
    ],
)
def test_a_strange_request_is_refused_or_answered_but_never_a_fault(running: Service, path: str, status: int) -> None:
    answer = httpx.get(running.url + path)
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.json()["ground"] == "unknown_user"
    else:
        assert answer.json().keys() == {"error"}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"[]", "expected a JSON object"),
        (b'{"events": [{"event_id": "a", "user_id": "%b", "product_id": "2"}]}' % (b"x" * 300), "1 to 128 characters"),
        (b'{"events": []}', "expected 1 to 10000"),
        (b'{"events": [7]}', "row 1: expected an object"),
        (b'{"events": [{"event_id": "a"}]}', "field 'user_id': expected text"),
        (b'{"events": [{"event_id": "a", "colour": 1}]}', "field 'colour': expected event_id"),
        (b'{"events": [{"event_id": "a", "user_id": "1", "product_id": "2", "event": "click", "at": "now"}]}', "'at'"),
        (b'{"events": [{"event_id": "a", "user_id": "1", "product_id": "2", "event": "x", "position": 0}]}', "1 to"),
    ],
)  # fmt: skip
def test_a_wrong_event_is_refused_by_name_and_nothing_is_kept(running: Service, body: bytes, sentence: str) -> None:
    answer = httpx.post(running.url + "/v1/events", content=body)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


def test_an_event_of_any_id_is_taken_and_moves_nobody(running: Service, shop: Shop) -> None:
    ids = ("a/b/../c", "\u00fc\U0001f642", "x" * 128, "null")
    items = [click(f" strange {number}", one, shop.bundle.product_ids[0]) for number, one in enumerate(ids)]
    assert post(running, *items) == {"logged": 4, "left_out": {}}


def test_an_unknown_user_gets_what_is_popular_in_the_segment(running: Service, shop: Shop) -> None:
    answer = get(running, "/recommend/nobody", k=5)
    assert (answer["ground"], answer["versions"]["model"], answer["withheld"]) == ("unknown_user", None, [])
    top = shop.bundle.product_ids[shop.bundle.popular(None, 1)[0]]
    assert answer["offers"][0]["offer_id"] == top
    assert get(running, "/recommend/nobody", k=5, region="south", employment="student")["ground"] == "unknown_user"


def test_the_page_shows_what_is_answered(running: Service) -> None:
    assert "text/html" in httpx.get(running.url + "/docs").headers["content-type"]
    document = get(running, "/openapi.json")
    schema = document["paths"]["/recommend/{user_id}"]["get"]["responses"]["200"]["content"]["application/json"]
    validator = Draft202012Validator(schema["schema"])
    for user in ("42", "nobody"):
        assert [error.message for error in validator.iter_errors(get(running, f"/recommend/{user}"))] == []
    events = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    assert httpx.post(running.url + "/v1/events", json=events["example"]).status_code == 200
    assert get(running, "/readyz") == {"ready": True}


def test_each_decision_is_logged_before_its_answer(running: Service, tmp_path: Path) -> None:
    answers = [
        get(running, "/recommend/42", k=3, withheld=True),
        get(running, "/recommend/nobody", k=3, region="south", employment="student"),
        get(running, "/recommend/42", explain=True),
    ]
    post(running, click("shipped", "9", "p0001", at="2026-01-01T00:00Z") | {"event_id": "shipped"})
    outcome = {"decision_id": answers[0]["decision_id"], "kind": "clicked", "observed_at": "2026-01-01T00:00Z"}
    assert httpx.post(running.url + "/v1/outcomes", json={"outcomes": [outcome]}).status_code == 200
    spool, tables = running.log.parent / "spool", DeltaTables.at(str(tmp_path / "tables"), Settings.from_env())
    until(lambda: not occupied(spool))
    assert {one.refusal for one in ship(spool, tables)} == {""}
    rows = tables.open(DECISIONS).to_pandas().set_index("decision_id")
    shipped = tables.open(INTERACTIONS).to_pandas().set_index("event_id").loc["shipped"]
    assert (shipped.customer, shipped.event) == (Pseudonyms.read(running.log.parent / "key").of("9"), "click")
    assert shipped["at"] == pd.Timestamp("2026-01-01T00:00Z")
    assert "9" not in tables.open(INTERACTIONS).to_pandas().customer.tolist()
    for answer in answers:
        row = rows.loc[answer["decision_id"]]
        assert row.offer_id == answer["offers"][0]["offer_id"]
        assert row.fallback == (answer["ground"] != "ranked")
        # A canary's guardrail of latency looks at it.
        assert (0 < row.latency_ms < 10_000) if answer["ground"] == "ranked" else np.isnan(row.latency_ms)
    assert len(rows.loc[answers[0]["decision_id"]].pairs) == len(scores(answers[0]))
    assert json.loads(rows.loc[answers[1]["decision_id"]].inputs) == {"region": "south", "employment": "student"}

    logged = history.read(tables).to_pylist()
    policies = {name: policy_of(*texts) for name, texts in history.market_texts(tables).items()}
    assert (redo(logged, policies), history.kept(tables)) == ([], {})
    assert {answer["decision_id"] for answer in answers} <= {row["decision_id"] for row in logged}
    (row,) = (row for row in logged if row["decision_id"] == answers[2]["decision_id"])
    pairs = [row["pairs"][0] | {"propensity": 0.9}, *row["pairs"][1:]]
    assert redo([row | {"pairs": pairs}], policies) == [row["decision_id"]]
    again = CliRunner().invoke(decisions.app, ["redo", "--tables", str(tmp_path / "tables")])
    assert again.stdout == f"{len(logged)} decisions made again, 0 came out otherwise\n"


def test_a_product_that_was_taken_off_is_recommended_no_more_and_a_new_one_is(running: Service, tmp_path: Path) -> None:
    path = running.log.parent / "products.csv"
    table = pd.read_csv(path, dtype=str)
    best = get(running, "/recommend/42")["offers"][0]["offer_id"]
    score = scores(get(running, "/recommend/42", withheld=True))[best]
    twin = table[table.product_id == best].assign(product_id="twin")
    pd.concat([table[table.product_id != best], twin]).to_csv(tmp_path / "part", index=False)
    os.utime(tmp_path / "part", (1, 1))
    (tmp_path / "part").rename(path)
    until(lambda: best not in scores(get(running, "/recommend/42", withheld=True)))
    # What takes its place is known by its columns, which are the same, and its events count.
    assert scores(get(running, "/recommend/42", withheld=True))["twin"] == pytest.approx(score)
    assert post(running, click("of the twin", "12", "twin")) == {"logged": 1, "left_out": {}}
    assert best not in {offer["offer_id"] for offer in get(running, "/recommend/nobody", k=100)["offers"]}


@pytest.mark.slow
def test_a_killed_process_loses_no_event_that_it_took(shop: Shop, store: Path, tmp_path: Path) -> None:
    arguments = ("--bundle", shop.bundle.path, "--store", store, "--events", tmp_path / "events")
    users, now = OnlineUsers(shop.market), np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us")
    place = users.encoder.names.index("clicks_7d")
    locked = sqlite3.connect(store)
    process, service = started(tmp_path / "a", *arguments)
    locked.execute("BEGIN IMMEDIATE")
    for number in range(3):
        assert post(service, click(number, "42", shop.bundle.product_ids[0]))["logged"] == 1
    process.kill()
    process.communicate()
    locked.close()
    with open_online_store(str(store)) as online:
        assert users.read(online, ["42"], now).matrix[0, place] == 0
        later = now + np.timedelta64(1, "h")
        with serving("serving.recommender", tmp_path / "b", *arguments, grpc=False) as service:
            until(lambda: users.read(online, ["42"], later).matrix[0, place] == 3)
            # After a load, which knows nothing of them, they count again, and once.
            users.load(shop.tables, online)
            assert users.read(online, ["42"], later).matrix[0, place] == 0
            until(lambda: users.read(online, ["42"], later).matrix[0, place] == 3)
            post(service, click(0, "42", shop.bundle.product_ids[0]))
            until(lambda: counted(service, 'offers_market_events_total{treatment="twice"}') == 1)
            assert users.read(online, ["42"], later).matrix[0, place] == 3


@pytest.mark.slow
def test_a_redis_that_hangs_is_waited_for_briefly_and_once(shop: Shop, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        with open_online_store(redis.url) as online:
            OnlineUsers(shop.market).load(shop.tables, online)
        arguments = ("--bundle", shop.bundle.path, "--store", redis.url, "--events", tmp_path / "events")
        with serving("serving.recommender", tmp_path / "log", *arguments, grpc=False) as service:
            assert get(service, "/recommend/42")["ground"] == "ranked"
            redis.hang()
            answers = [get(service, "/recommend/42") for _ in range(5)]
            assert {answer["ground"] for answer in answers} == {"store_away"}
            assert "degraded" in get(service, "/readyz")
            assert counted(service, "offers_online_store_away") == 1
            post(service, click(1, "42", shop.bundle.product_ids[0]))
            redis.go_on()
            until(lambda: get(service, "/recommend/42")["ground"] == "ranked")
            until(lambda: counted(service, 'offers_market_events_total{treatment="taken"}') == 1)


def test_where_nothing_may_stand_in_for_the_store_the_answer_is_a_refusal(shop: Shop) -> None:
    def opened() -> NoReturn:
        raise StorageError("away")

    users = Users(OnlineUsers(shop.market), opened)
    recommendations = Recommendations(Served(ProductList(shop.bundle), None), users, may_fall_back=False)
    with pytest.raises(Unavailable, match="nothing may stand in"):
        asyncio.run(recommendations.answer(recommendations.question("42", {})))
    assert users.away
    users.close()


def test_exploration_draws_the_first_place_as_often_as_it_says(shop: Shop) -> None:
    market = shop.market.model_copy(
        update={"recommendation": shop.market.recommendation.model_copy(update={"explore": 0.4, "k": 3})}
    )
    recommender = Recommender(replace(shop.bundle, market=market))
    user = np.full(len(shop.bundle.user_encoder.names), np.nan, np.float32)
    available = np.ones(len(shop.bundle.product_ids), bool)
    answers = [recommender.recommend(user, 3, available, f"decision {number}") for number in range(400)]
    said = answers[0].first
    assert sum(said) == pytest.approx(1)
    firsts = Counter(answer.offers[0] for answer in answers)
    for one, probability in enumerate(said):
        assert firsts[one] / 400 == pytest.approx(probability, abs=0.08)
    drawn = [answer for answer in answers if answer.why[0] == "DRAWN_TO_EXPLORE"]
    assert len(drawn) / 400 == pytest.approx(0.4, abs=0.08)
