"""The evaluation ranks by later views, and its gate lets only towers serve that find more than simple ways do."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from offers.contract import market as markets
from offers.data.market import write_simulated
from offers.data.market_rates import rates_of
from offers.errors import DataError
from offers.evaluation.gate import GateVerdict
from offers.reports import market as reports
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.measuring import UserSample, gains, hits, rank_views
from offers.retrieval.oracle import simulated_oracle
from offers.retrieval.training import train
from offers.retrieval.views import Views, views_of
from offers.simulation.market import SimulatedMarket
from tests.support.markets import SmallMarket, small_market


def test_towers_find_more_than_popularity_and_serve(fintech: SmallMarket) -> None:
    evaluation = fintech.evaluation
    recall = {method.name: method.figures["recall@10"].value for method in evaluation.methods}
    assert recall["towers"] > 1.5 * recall["popularity"]
    assert recall["oracle"] == max(recall.values())
    ahead = evaluation.ahead["popularity"]
    assert ahead.value == pytest.approx(recall["towers"] - recall["popularity"], abs=1e-5)
    assert ahead.low is not None
    assert ahead.low > 0
    assert evaluation.verdict.passed, evaluation.verdict
    assert fintech.bundle.towers is not None
    assert evaluation.margin is not None
    assert evaluation.margin.kept.value > 0.99
    assert evaluation.new_products > 0
    assert 0 < evaluation.cold_users < 1


def test_the_report_tells_clicks_and_conversion_by_product_and_place(fintech: SmallMarket) -> None:
    evaluation = fintech.evaluation
    products, places = rates_of(fintech.market, fintech.tables)
    assert list(evaluation.product_rates) == products[:20]
    assert list(evaluation.place_rates) == places[:20]
    page = reports.market_report(fintech.market, evaluation)
    for one in (*evaluation.product_rates, *evaluation.place_rates):
        assert f"{one.rates['click']:.2%}" in page
        assert f"{one.rates['approval']:.2%}" in page


def test_the_ranker_is_calibrated_on_later_views(fintech: SmallMarket, shop: SmallMarket) -> None:
    for ranker in (fintech.evaluation.ranker, shop.evaluation.ranker):
        assert ranker.log_loss < ranker.base_log_loss
        assert ranker.mean_propensity == pytest.approx(ranker.accepted, rel=0.3)


def test_with_few_products_retrieval_does_not_pay(shop: SmallMarket) -> None:
    assert shop.bundle.towers is None
    assert shop.bundle.manifest.retrieval == "none"
    assert not shop.evaluation.verdict.passed
    assert "towers" not in {method.name for method in shop.evaluation.methods}
    assert reports.headline(shop.evaluation) == (
        "Retrieval does not pay with 24 products: the ranker scores all of them."
    )


def test_a_market_without_tastes_refuses_towers(tmp_path: Path) -> None:
    text = small_market(users=600, products=100, taste=0).replace("epochs: 10", "epochs: 2")
    write_simulated(SimulatedMarket(markets.parse(text), seed=3), tmp_path)
    bundle, evaluation = train(text, tmp_path, tmp_path / "bundles")
    broken = {rule.rule for rule in evaluation.verdict.rules if not rule.passed}
    assert "recall@10 beyond that of popularity" in broken
    assert MarketBundle.load(bundle).towers is None
    assert reports.headline(evaluation).startswith("The gate refused the towers, so the ranker scores all products:")


def test_the_page_has_every_way_and_loads_nothing(fintech: SmallMarket, shop: SmallMarket) -> None:
    for small in (fintech, shop):
        page = reports.market_report(small.market, small.evaluation, small.bundle.name)
        assert all(method.name in page for method in small.evaluation.methods)
        assert small.bundle.name in page
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert "<script" not in page


def test_the_bundle_holds_its_evaluation(fintech: SmallMarket) -> None:
    content = (fintech.bundle.path / "evaluation.json").read_text("utf-8")
    assert type(fintech.evaluation).model_validate_json(content) == fintech.evaluation
    assert isinstance(fintech.evaluation.verdict, GateVerdict)


def test_the_oracle_is_that_of_the_tables(fintech: SmallMarket) -> None:
    assert simulated_oracle(fintech.market, fintech.tables, 3).truth.seed == 3
    with pytest.raises(Exception, match="its products are not those of the simulated market of seed 4"):
        simulated_oracle(fintech.market, fintech.tables, 4)


def test_too_few_views_are_one_sentence(tmp_path: Path) -> None:
    text = small_market(users=20, products=24)
    write_simulated(SimulatedMarket(markets.parse(text), seed=3), tmp_path)
    with pytest.raises(DataError, match="expected 1000 views at least, found"):
        train(text, tmp_path, tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


def test_ranks_count_what_was_there_and_ties_by_half() -> None:
    views = _views(product=[0, 1, 3], user=[0, 1, 1], moment=[5, 5, 5])
    scores = np.array([[3.0, 1, 2, 9], [1, 1, 1, 9], [3, 2, 1, 0]], np.float32)
    # Product 3 is launched later: it counts only where it was viewed.
    ranks = rank_views(lambda part: scores[: len(part)], views, np.array([0, 0, 0, 9]))
    assert ranks.ranks.tolist() == [0, 1, 3]
    assert hits(ranks, 2).tolist() == [1, 1, 0]
    np.testing.assert_allclose(gains(ranks), [1, 1 / np.log2(3), 1 / np.log2(5)])


def test_intervals_are_over_users() -> None:
    """A user's views stand or fall together: with one user there is nothing to resample, however many the views."""
    rng = np.random.default_rng(0)
    values = {"a": rng.random(400)}
    weights = rng.uniform(1, 2, 400)
    alone = UserSample(np.zeros(400, np.int32), weights, 0).means(values)["a"]
    assert alone.low == alone.high == alone.value == pytest.approx(np.average(values["a"], weights=weights), abs=1e-6)
    many = UserSample(np.arange(400, dtype=np.int32), np.ones(400), 0).means(values)["a"]
    assert many.low is not None
    assert many.high is not None
    error = values["a"].std() / 20
    assert many.high - many.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert UserSample(np.zeros(4, np.int32), np.ones(4), 0).means({"a": np.ones(4)}, np.zeros(4, np.bool_)) == {}


def _views(product: list[int], user: list[int], moment: list[int]) -> Views:
    number = len(product)
    return views_of(
        rows=np.zeros((number, 1), np.float32),
        product=np.array(product, np.int32),
        user=np.array(user, np.int32),
        position=np.ones(number, np.int32),
        moment=np.array(moment, np.int64),
        accepted=np.zeros(number, np.bool_),
        users=pa.array(["0", "1"]),
    )
