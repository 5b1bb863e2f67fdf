"""An index finds what a comparison with all products finds, and is refused when it is not the bundle's."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from offers.errors import BundleError
from offers.files import sha256_of
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.nearest import exactly_nearest, highest
from offers.retrieval.product_index import FILE, ProductIndex
from offers.retrieval.products import Products
from offers.retrieval.writing import MarketModels, write
from tests.support.markets import SmallMarket


@pytest.fixture
def indexed(fintech: SmallMarket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MarketBundle:
    """The market's bundle, as if a hundred products were too many to compare with all."""
    for module in ("writing", "nearest"):
        monkeypatch.setattr(f"offers.retrieval.{module}.EXACT", 20)
    one = fintech.bundle
    models = MarketModels(one.products, one.ranker, one.popularity, one.towers, one.reference())
    evaluation = (one.path / "evaluation.json").read_text()
    return MarketBundle.load(write(tmp_path / "bundles", fintech.text, models, one.manifest.data, 0, evaluation))


def test_it_finds_nearly_all_that_a_comparison_with_all_finds_and_only_what_is_available() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((30, 16))
    vectors = (centres[rng.integers(0, 30, 5000)] + rng.standard_normal((5000, 16)) / 2).astype(np.float32)
    # As where many products have no margin.
    vectors[::10, -1] -= 20
    users = np.c_[centres[rng.integers(0, 30, 50), :-1], np.ones(50)].astype(np.float32)
    index, available = ProductIndex.build(vectors), rng.random(5000) < 0.7
    found = index.search(users, 50, available)
    exact = highest(np.where(available, users @ vectors.T, -np.inf), 50)
    assert np.mean([np.isin(*pair).mean() for pair in zip(exact, found, strict=True)]) > 0.98
    assert available[found].all()
    assert ProductIndex.build(vectors).content == index.content
    assert ProductIndex(index.content).shape == (5000, 16)


def test_a_bundle_with_an_index_finds_old_and_new_products_and_no_deleted_ones(indexed: MarketBundle) -> None:
    users, number = indexed.reference()[:40], len(indexed.product_ids)
    assert indexed.index is not None
    trained = indexed.products
    twins = Products(trained.encoder, [f"twin {one}" for one in trained.ids], trained.launched, trained.matrix)
    for bundle in (indexed, indexed.with_products(twins)):
        available = np.arange(len(bundle.product_ids)) % 4 != 0
        vectors = bundle.towers.user(users) if bundle.towers else users
        expected = exactly_nearest(bundle.worth, vectors, 30, available)
        found = bundle.candidates(users, 30, available)
        assert np.mean([np.isin(*pair).mean() for pair in zip(expected, found, strict=True)]) > 0.99
        assert available[found].all()
    # Those of the last bundle.
    assert (found >= number).any()
    few = np.arange(number) < 10
    assert sorted(indexed.candidates(users, 30, few)[0]) == list(range(10))


def test_an_index_that_is_not_the_bundles_is_refused(indexed: MarketBundle, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((len(indexed.product_ids), 33)).astype(np.float32)
    content = (indexed.path / FILE).read_bytes()
    for place, (other, reason) in enumerate(
        (
            (content[:-9], "faiss can't read"),
            (b"no index", "faiss can't read"),
            (ProductIndex.build(vectors[1:]).content, r"is of \(99, 33\) products and components"),
            (ProductIndex.build(vectors).content, r"the index finds \d\d% of the first 50 products"),
        )
    ):
        copy = shutil.copytree(indexed.path, tmp_path / str(place))
        (copy / FILE).write_bytes(other)
        with pytest.raises(BundleError, match=f"{FILE} was changed"):
            MarketBundle.load(copy)
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["files"][FILE] = sha256_of(copy / FILE)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match=reason):
            MarketBundle.load(copy)
