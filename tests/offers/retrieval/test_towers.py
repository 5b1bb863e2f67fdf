"""The towers' file answers as JAX does, and what its inputs and weights are made of is what it says."""

import jax
import numpy as np
import pyarrow as pa
import pytest

from offers.data.online import OnlineUsers
from offers.errors import BundleError
from offers.retrieval import towers
from offers.retrieval.dense import LIMIT, fit_dense
from offers.retrieval.tower_file import tower_file
from offers.retrieval.towers import TowerTraining, log_looks
from offers.retrieval.user_tower import Tower
from offers.retrieval.views import Views, full_rows, read_views, views_of
from tests.support.markets import SmallMarket


def test_onnxruntime_gives_the_vectors_of_jax(fintech: SmallMarket) -> None:
    encoder = OnlineUsers(fintech.market).encoder
    rng = np.random.default_rng(5)
    users = np.empty((300, len(encoder.names)), np.float32)
    for place, feature in enumerate(encoder.features):
        money = 10 ** rng.uniform(-2, 7, len(users)) * rng.choice([-1, 1], len(users))
        users[:, place] = rng.integers(0, len(feature.values), len(users)) if feature.values else money
    users[rng.random(users.shape) < 0.2] = np.nan
    dense = fit_dense(encoder, users)
    layers = towers._random_layers(rng, (dense.width, 128, 64, 32))
    with jax.default_matmul_precision("float32"):
        expected = np.asarray(jax.jit(towers._apply)(layers, dense(users)))
    vectors = Tower(tower_file(dense, layers))(users)
    np.testing.assert_allclose(vectors[:, :-1], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(vectors[:, -1], 1)

    # Users viewed none to six of nine products.
    viewed = np.where(np.arange(6) < rng.integers(0, 7, (len(users), 1)), rng.integers(0, 9, (len(users), 6)), -1)
    weights = {
        "user": towers._random_layers(rng, (dense.width + 32, 128, 64, 32)),
        "viewed": rng.standard_normal((9, 32)).astype(np.float32),
    }
    with jax.default_matmul_precision("float32"):
        expected = np.asarray(jax.jit(towers._vectors)(weights, (dense(users), viewed)))
    tower = Tower(tower_file(dense, weights["user"], weights["viewed"], 6))
    np.testing.assert_allclose(tower(full_rows(users, viewed))[:, :-1], expected, rtol=0, atol=1e-5)


def test_inputs_are_cut_standardised_and_marked_where_missing(fintech: SmallMarket) -> None:
    encoder = OnlineUsers(fintech.market).encoder
    users = np.full((3, len(encoder.names)), np.nan, np.float32)
    income, region = encoder.names.index("income"), encoder.names.index("region")
    users[:2, income], users[0, region] = (1000, 3000), 2
    dense = fit_dense(encoder, users)
    numbers, words = len(dense.numbers), dict(dense.categories)
    users[0, income] = 1e6
    row, empty = dense(users)[0], dense(users)[2]
    place = dense.numbers.index(income)
    assert row[place] == LIMIT
    assert row[numbers + place] == LIMIT
    assert row[2 * numbers + place] == 0
    assert dense(users)[1, place] == pytest.approx(1)
    assert row[3 * numbers :].sum() == 1
    assert empty.sum() == numbers
    assert len(row) == dense.width == 3 * numbers + sum(words.values())


def test_looks_are_the_share_of_users_who_look_at_the_places_of_a_product() -> None:
    """Product 0 stands at place 1, and product 1 at place 4, where half as many look with a bias of 0.5."""
    number = 100_000
    product = np.repeat(np.array([0, 1], np.int32), number)
    views = _views(product, np.where(product == 0, 1, 4).astype(np.int32))
    looks = np.exp(log_looks(views, 0.5, 3))
    assert looks[1] / looks[0] == pytest.approx(0.5, rel=1e-3)
    assert looks[1] < looks[2] < looks[0]


@pytest.mark.parametrize("full", [5000, pytest.param(1, marks=pytest.mark.slow)])
def test_towers_order_products_as_true_preferences_do(
    full: int, fintech: SmallMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the softmax over all products, and with that over the batch, whose logits are corrected."""
    monkeypatch.setattr(towers, "FULL", full)
    market = fintech.market.model_copy(
        update={"retrieval": fintech.market.retrieval.model_copy(update={"epochs": 4, "learning_rate": 0.01})}
    )
    with read_views(market, fintech.tables) as (views, products):
        fitted = TowerTraining(market, products, views, seed=0).fit()
        some = views[np.arange(0, len(views), len(views) // 500)]
        ids = np.array([int(one) for one in some.users.take(some.user).to_pylist()])
        affinity, utility = fitted.affinity(some.full(market.retrieval.viewed)), fintech.truth.utility(ids)
    # Without what a row shares for all products.
    ours, true = (one - one.mean(axis=1, keepdims=True) for one in (affinity, utility))
    assert np.corrcoef(ours.ravel(), true.ravel())[0, 1] > 0.8


def test_a_market_without_views_of_some_products_has_vectors_of_all(shop: SmallMarket) -> None:
    with read_views(shop.market, shop.tables) as (views, products):
        market = shop.market.model_copy(
            update={"retrieval": shop.market.retrieval.model_copy(update={"epochs": 1, "dimensions": 4})}
        )
        few = views[np.flatnonzero(np.asarray(views.product) < 3)]
        first, again = (TowerTraining(market, products, few, seed=2).fit() for _ in range(2))
    assert first.products.shape == (24, 5)
    assert np.isfinite(first.products).all()
    np.testing.assert_array_equal(first.products, again.products)
    assert first.user.content == again.user.content


def test_a_file_that_is_no_tower_is_refused() -> None:

    with pytest.raises(BundleError, match="can't read the tower"):
        Tower(b"no tower")


def _views(product: np.ndarray, position: np.ndarray) -> Views:

    number = len(product)
    return views_of(
        rows=np.zeros((number, 1), np.float32),
        product=product,
        user=np.zeros(number, np.int32),
        position=position,
        moment=np.arange(number, dtype=np.int64),
        accepted=np.zeros(number, np.bool_),
        users=pa.array(["0"]),
    )
