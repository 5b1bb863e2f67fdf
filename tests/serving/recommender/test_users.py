"""A store in good health is never taken for one that is away, and one that hangs holds nobody up."""

import asyncio
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from offers.data.online import OnlineUsers
from offers.data.online_row import RowForm
from offers.store.online import SqliteOnlineStore
from serving.recommender.products import ProductList
from serving.recommender.served import Served
from serving.recommender.service import MOST_WAITING, Recommendations
from serving.recommender.users import DEADLINE, GRACE, Overloaded, StoreAway, Users
from tests.support.recommender import Shop


class HangingStore:
    """A store that answers nothing until it is let go, as one on a frozen disk."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked = 0

    def get(self, ids: Sequence[str]) -> list[bytes | None]:
        self.asked += 1
        assert self.go_on.wait(30)
        return [None] * len(ids)

    def close(self) -> None: ...


def grounds(shop: Shop, users: Users, count: int, times: int = 1) -> list[Counter[str]]:
    """The grounds of `count` answers that are asked for at once, that many times."""
    recommendations = Recommendations(Served(ProductList(shop.bundle), None), users)

    async def ask() -> list[Counter[str]]:
        asked = [recommendations.question(str(one), {}) for one in range(count)]
        rounds = [await asyncio.gather(*map(recommendations.answer, asked)) for _ in range(times)]
        return [Counter(json.loads(answer)["ground"] for answer in answers) for answers in rounds]

    return asyncio.run(ask())


def test_a_busy_process_does_not_take_its_store_for_away(shop: Shop, store: Path) -> None:
    users = Users(OnlineUsers(shop.market), lambda: SqliteOnlineStore(store, patience=DEADLINE))

    async def ask() -> list[bool]:
        reads = [asyncio.create_task(users.read(str(user))) for user in range(8)]
        await asyncio.sleep(0)
        # The event loop is held up for longer than the store has.
        time.sleep(2 * (DEADLINE + GRACE))
        return [bool(np.isnat(rows.moments[0])) for rows in await asyncio.gather(*reads)]

    assert asyncio.run(ask()) == [False] * 8
    assert not users.away
    users.close()


def test_more_than_can_be_answered_in_time_is_overload_and_no_pause_follows(shop: Shop, store: Path) -> None:
    users = Users(OnlineUsers(shop.market), lambda: SqliteOnlineStore(store, patience=DEADLINE))
    rounds = grounds(shop, users, count=100, times=2)
    for one in rounds:
        assert (one.keys(), one.total()) == ({"ranked", "overloaded"}, 100)
        # Who is answered makes room for another.
        assert MOST_WAITING <= one["ranked"] < 100
    assert grounds(shop, users, count=MOST_WAITING) == [{"ranked": MOST_WAITING}]
    users.close()


def test_a_store_that_hangs_is_away_while_it_hangs(shop: Shop) -> None:
    store = HangingStore()
    users = Users(OnlineUsers(shop.market), lambda: store)
    # All are answered although the store has answered nobody; the second round does not ask it.
    assert grounds(shop, users, count=5, times=2) == [{"store_away": 5}] * 2
    assert (users.away, store.go_on.is_set(), store.asked) == (True, False, 2)
    assert DEADLINE + GRACE < 0.05
    store.go_on.set()
    users.close()


def test_a_question_that_is_not_put_to_the_store_in_time_does_not_blame_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HangingStore()
    users = Users(OnlineUsers(shop.market), lambda: store)
    monkeypatch.setattr("serving.recommender.users.DEADLINE", 0.001)
    monkeypatch.setattr(users, "_hangs", lambda: False)
    with pytest.raises(Overloaded):
        asyncio.run(users.read("42"))
    assert not users.away
    store.go_on.set()
    users.close()


def test_an_sqlite_file_that_somebody_locks_is_away(shop: Shop, store: Path) -> None:
    users = Users(OnlineUsers(shop.market), lambda: SqliteOnlineStore(store, patience=DEADLINE))
    with sqlite3.connect(store, isolation_level=None) as locked:
        locked.execute("PRAGMA locking_mode = EXCLUSIVE")
        locked.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreAway):
            asyncio.run(users.read("42"))
        assert users.away
    locked.close()
    assert grounds(shop, users, count=1) == [{"store_away": 1}]
    users.close()


def test_a_blank_profile_is_ranked_and_a_row_of_another_contract_is_an_unknown_user(shop: Shop, store: Path) -> None:
    form = RowForm(shop.market)

    def change(contents: Sequence[bytes | None]) -> list[bytes | None]:
        blank = form.row(contents[0] or b"")
        blank.record["values"] = np.nan
        return [blank.packed(), b"another!" + (contents[1] or b"")[8:]]

    with SqliteOnlineStore(store) as online:
        online.update(["3", "4"], change)
    users = Users(OnlineUsers(shop.market), lambda: SqliteOnlineStore(store, patience=DEADLINE))
    recommendations = Recommendations(Served(ProductList(shop.bundle), None), users)
    asked = [recommendations.question(one, {"k": "5"}) for one in ("3", "4")]
    answers = [json.loads(asyncio.run(recommendations.answer(one))) for one in asked]
    assert [answer["ground"] for answer in answers] == ["ranked", "unknown_user"]
    assert [len(answer["offers"]) for answer in answers] == [5, 5]
    assert all(0 < offer["propensity"] < 1 for offer in answers[0]["offers"])
    users.close()
