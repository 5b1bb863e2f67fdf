"""A market's bundle answers what the services ask, and refuses to load when it was changed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offers.data.online_reading import OnlineRows
from offers.data.snapshot import code_of
from offers.errors import BundleError
from offers.files import sha256_of
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.model_files import VECTORS
from offers.retrieval.products import Products
from tests.support.markets import SmallMarket


def test_it_names_products_in_their_order(fintech: SmallMarket) -> None:
    bundle, products = fintech.bundle, fintech.truth.products
    assert bundle.product_ids == products.product_id.tolist()
    assert bundle.product_columns["kind"].tolist() == products.kind.tolist()
    np.testing.assert_allclose(bundle.product_columns["price"], products.price, rtol=1e-6)


def test_candidates_are_available_and_of_the_highest_value_as_far_as_affinity_tells(
    fintech: SmallMarket, shop: SmallMarket
) -> None:
    for bundle, number in ((fintech.bundle, 50), (shop.bundle, 16)):
        _check_candidates(bundle, number)


def _check_candidates(bundle: MarketBundle, number: int) -> None:
    users = bundle.reference()[:7]
    available = np.arange(len(bundle.product_ids)) % 3 != 0
    found = bundle.candidates(users, 50, available)
    assert found.shape == (7, number)
    assert available[found].all()
    if bundle.towers is not None:
        price = np.maximum(bundle.product_columns["price"], 1e-9)
        worth = np.where(available, bundle.ranker.line.slope * bundle.affinity(users) + np.log(price), -np.inf)
        highest = -np.sort(-worth, axis=1)[:, :number]
        np.testing.assert_allclose(np.take_along_axis(worth, found, axis=1), highest, atol=1e-4)
        scored, propensity = bundle.scored(users, 50, available)
        np.testing.assert_array_equal(scored, found)
        np.testing.assert_allclose(propensity, bundle.propensity(users, found), rtol=1e-5)
    assert bundle.candidates(users, 5, np.zeros(len(available), np.bool_)).shape == (7, 0)
    propensity = bundle.propensity(users, found)
    assert propensity.shape == found.shape
    assert ((propensity > 0) & (propensity < 1)).all()
    assert np.isfinite(bundle.propensity(np.full((1, users.shape[1]), np.nan, np.float32), found[:1])).all()


def test_popular_counts_views_of_all_and_of_a_segment(fintech: SmallMarket) -> None:
    bundle = fintech.bundle
    events = pd.read_parquet(fintech.tables / "interactions.parquet")
    users = pd.read_parquet(fintech.tables / "users.parquet")
    views = events[events.event == "view"].merge(users, on="user_id")
    counts = views.product_id.value_counts().reindex(bundle.product_ids, fill_value=0).to_numpy()
    np.testing.assert_array_equal(bundle.popularity.scores(), counts)
    assert bundle.popular(None, 3).tolist() == np.argsort(-counts, kind="stable")[:3].tolist()

    segment = {"region": "south", "employment": "student"}
    # A row that is beyond its time to live tells no segment.
    known = views["at"] - views.joined_at <= pd.Timedelta(days=fintech.market.users.time_to_live or 0)
    ours = views[known & (views.region == "south") & (views.employment == "student")]
    own = ours.product_id.value_counts().reindex(bundle.product_ids, fill_value=0).to_numpy()
    np.testing.assert_allclose(bundle.popularity.scores(segment), own + 100 * counts / counts.sum())
    assert len(bundle.popular({"region": "moon"}, 999)) == len(bundle.product_ids)


@pytest.mark.parametrize(
    "file",
    [
        "booster.ubj",
        "line.json",
        "product_vectors.npy",
        "user_tower.onnx",
        "product_tower.onnx",
        "products.parquet",
        "golden.json",
    ],
)
def test_a_changed_file_is_refused(fintech: SmallMarket, tmp_path: Path, file: str) -> None:
    copy = shutil.copytree(fintech.bundle.path, tmp_path / fintech.bundle.name)
    (copy / file).write_bytes((copy / file).read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"{file} was changed"):
        MarketBundle.load(copy)


def test_a_bundle_without_a_file_or_with_another_name_is_refused(fintech: SmallMarket, tmp_path: Path) -> None:
    copy = shutil.copytree(fintech.bundle.path, tmp_path / f"{fintech.market.name}-{'0' * 16}")
    with pytest.raises(BundleError, match="the manifest was changed"):
        MarketBundle.load(copy)
    (copy / "calibrator.json").unlink()
    with pytest.raises(BundleError, match=r"missing calibrator\.json"):
        MarketBundle.load(copy, fintech.bundle.name)


def test_towers_and_ranker_give_the_golden_rows_or_the_bundle_is_refused(fintech: SmallMarket, tmp_path: Path) -> None:
    """Whoever changes a file and its hash is found out by what it answers."""
    copy = shutil.copytree(fintech.bundle.path, tmp_path / "copy")
    np.save(copy / VECTORS, 1.01 * np.load(copy / VECTORS))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][VECTORS] = sha256_of(copy / VECTORS)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"golden user \d+ has affinity"):
        MarketBundle.load(copy)


def test_contributions_add_up_to_the_log_odds(fintech: SmallMarket, shop: SmallMarket) -> None:
    for bundle in (fintech.bundle, shop.bundle):
        ranker = bundle.ranker
        users = bundle.reference()[:5]
        products = np.tile(np.arange(20), (5, 1))
        affinity = None if bundle.towers is None else bundle.towers.affinity_of(users, products)
        matrix = ranker.inputs.matrix(users, products, affinity)
        parts = ranker.contributions(matrix, affinity, 1.5)
        np.testing.assert_allclose(parts.sum(axis=1), ranker.margins(matrix, affinity), rtol=0, atol=1e-4)
        assert ranker.inputs.names(affinity is not None)[-1] == ("affinity" if bundle.towers else "affordable")


def test_what_users_viewed_becomes_places_and_unknown_products_nothing(fintech: SmallMarket) -> None:
    bundle = fintech.bundle
    codes = [code_of(one) for one in (bundle.product_ids[7], "launched later", bundle.product_ids[0])]
    rows = np.zeros((1, len(bundle.user_encoder.names)), np.float32)
    online = OnlineRows(rows, np.array(["2026-01-01"], "datetime64[us]"), 0, {}, np.array([[*codes, -1]]))
    np.testing.assert_array_equal(bundle.rows(online)[0, len(rows[0]) :], [7, np.nan, 0, np.nan])


def test_a_product_that_is_launched_later_is_known_by_its_columns(fintech: SmallMarket) -> None:
    bundle, users = fintech.bundle, fintech.bundle.reference()[:400]
    trained = bundle.products
    twins = Products(trained.encoder, [f"twin {one}" for one in trained.ids], trained.launched, trained.matrix)
    later, number = bundle.with_products(twins), len(trained.ids)
    affinity = later.affinity(users)
    # The last bits of a product of matrices depend on their size.
    np.testing.assert_allclose(affinity[:, :number], bundle.affinity(users), rtol=0, atol=1e-5)
    # Apart from what only views of the very product tell, a twin is liked by the same users.
    pairs = zip(affinity[:, :number].T, affinity[:, number:].T, strict=True)
    assert np.mean([np.corrcoef(one, twin)[0, 1] for one, twin in pairs]) > 0.8
    assert later.popular(None, 2 * number)[:number].max() < number
    candidates, propensity = later.scored(users, 2 * number, np.ones(2 * number, np.bool_))
    assert (candidates >= number).any()
    assert ((propensity > 0) & (propensity < 1)).all()
    online = OnlineRows(users[:1, : len(bundle.user_encoder.names)], np.array(["2026-01-01"], "datetime64[us]"), 0, {},
                        np.array([[code_of(twins.ids[0]), code_of(trained.ids[3])]]))  # fmt: skip
    np.testing.assert_array_equal(later.rows(online)[0, -2:], [np.nan, 3])
