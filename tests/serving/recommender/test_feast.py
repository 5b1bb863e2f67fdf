"""A recommender whose users are Feast's."""

import contextlib
import time
from pathlib import Path

import httpx
import pytest

from offers.data.online import OnlineUsers
from tests.support.feast import FeatureServer, answer_of
from tests.support.recommender import Shop
from tests.support.services import serving

DEADLINE = 30.0


@pytest.mark.slow
def test_users_of_feast_get_ranked_answers_and_popular_ones_while_it_hangs(shop: Shop, tmp_path: Path) -> None:
    user = {
        "offers_contract": OnlineUsers(shop.market).form.hex(),
        "offers_since": time.time_ns() // 1000,
        "income": 3000,
    }
    with FeatureServer(answer_of(shop.market, user)) as server, contextlib.ExitStack() as beside:
        beside.callback(server.answers.set)
        arguments = ("--bundle", shop.bundle.path, "--store", server.place, "--events", tmp_path / "events")
        service = beside.enter_context(serving("serving.recommender", tmp_path / "log", *arguments, grpc=False))

        def wait_for(ground: str) -> None:
            deadline = time.monotonic() + DEADLINE
            while httpx.get(f"{service.url}/recommend/42", timeout=30).json()["ground"] != ground:
                assert time.monotonic() < deadline
                time.sleep(0.02)

        wait_for("ranked")
        event = {"event_id": "1", "user_id": "42", "product_id": shop.bundle.product_ids[0], "event": "click"}
        httpx.post(f"{service.url}/v1/events", json={"events": [event]}, timeout=30).raise_for_status()
        counted = 'offers_market_events_total{treatment="taken"} 1.0'
        deadline = time.monotonic() + DEADLINE
        while counted not in httpx.get(f"{service.url}/metrics", timeout=30).text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        server.answers.clear()
        wait_for("store_away")
        server.answers.set()
        wait_for("ranked")
        server.answer = answer_of(shop.market, {})
        wait_for("unknown_user")


def test_a_feature_server_that_lacks_the_market_is_refused_at_the_start(shop: Shop, tmp_path: Path) -> None:
    refused = "serving.recommender", tmp_path / "log"
    with (
        FeatureServer("no such service", 404) as server,
        pytest.raises(AssertionError, match="answered 404 when asked for the feature service 'fintech_recommender'"),
        serving(*refused, "--bundle", shop.bundle.path, "--store", server.place, grpc=False),
    ):
        pass
