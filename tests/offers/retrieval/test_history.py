"""What training takes for a user's history is what the online store tells at that moment."""

from pathlib import Path

import numpy as np

from offers.data.online import OnlineUsers
from offers.retrieval.views import full_rows, read_views
from offers.store.online import SqliteOnlineStore
from tests.support.markets import SmallMarket


def test_training_and_serving_see_the_same_history(shop: SmallMarket, tmp_path: Path) -> None:
    retrieval = shop.market.retrieval.model_copy(update={"method": "towers", "history": 4})
    market = shop.market.model_copy(update={"retrieval": retrieval})
    users = OnlineUsers(market)
    with (
        read_views(market, shop.tables) as (views, products),
        SqliteOnlineStore(tmp_path / "users.db", new=True) as store,
    ):
        part = views[np.array([0, len(views) // 3, len(views) - 1])]
        for place in range(len(part)):
            moment = np.datetime64(int(part.moment[place]), "us")
            users.load(shop.tables, store, moment)
            online = users.read(store, part.users.take(part.user[[place]]).to_pylist(), moment)
            serving = full_rows(online.matrix, products.places_of(online.viewed))
            training = part[np.array([place])].full(4)
            # The order of views does not count.
            np.testing.assert_array_equal(np.sort(serving[:, -4:]), np.sort(training[:, -4:]))
            np.testing.assert_array_equal(serving[:, :-4], training[:, :-4])
        assert len(np.unique(views.viewed(4))) > 5


def test_no_later_view_changes_a_history(shop: SmallMarket) -> None:
    with read_views(shop.market, shop.tables) as (views, _):
        edge = len(views) // 2
        earlier = views.history.views(np.arange(edge), 6)
        there = earlier >= 0
        assert there.any()
        assert (views.moment[earlier] < views.moment[:edge, None])[there].all()
        assert (views.user[earlier] == views.user[:edge, None])[there].all()
