"""A market's tables hold what was simulated, whole or not at all."""

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from offers.contract import market as markets
from offers.data.market import write_simulated
from offers.data.market_rates import rates_of
from offers.errors import StorageError
from offers.simulation.market import SimulatedMarket


def simulated(users: int) -> SimulatedMarket:
    market = markets.load("fintech")
    sizes = {"users": users, "products": 20, "views": 3}
    return SimulatedMarket(market.model_copy(update={"simulation": market.simulation.model_copy(update=sizes)}), seed=1)


def test_tables_hold_what_was_simulated(tmp_path: Path) -> None:
    market = simulated(2500)
    assert write_simulated(market, tmp_path)[0] == 2500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["interactions.parquet", "products.csv", "users.parquet"]
    blocks = list(market.blocks())
    for noun in ("users", "interactions"):
        table = pd.read_parquet(tmp_path / f"{noun}.parquet")
        expected = pd.concat([getattr(block, noun) for block in blocks], ignore_index=True)
        pd.testing.assert_frame_equal(table, expected, check_categorical=False, check_dtype=False)
    products = duckdb.sql(f"select * from '{tmp_path / 'products.csv'}'").df()
    assert products.product_id.tolist() == market.products.product_id.tolist()
    assert products.kind.tolist() == market.products.kind.tolist()
    assert products.launched_at.tolist() == market.products.launched_at.tolist()


def test_rates_are_events_over_views(tmp_path: Path) -> None:
    market = simulated(500)
    write_simulated(market, tmp_path)
    events = pd.concat([block.interactions for block in market.blocks()], ignore_index=True)
    for found, column in zip(rates_of(market.market, tmp_path), ("product_id", "position"), strict=True):
        counts = events.groupby([events[column].astype(str), events["event"].astype(str)]).size().unstack(fill_value=0)
        assert {one.name: one.views for one in found} == counts["view"][counts["view"] > 0].to_dict()
        for one in found:
            own = counts.loc[one.name]
            assert one.rates == pytest.approx({name: own.get(name, 0) / own["view"] for name in one.rates})
    products, places = rates_of(market.market, tmp_path)
    assert [one.views for one in products] == sorted((one.views for one in products), reverse=True)
    assert [one.name for one in places] == [str(place) for place in range(1, len(places) + 1)]


def test_a_table_that_is_not_whole_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_simulated(simulated(100), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(SimulatedMarket, "_block", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(StorageError, match="the disk is full"):
        write_simulated(simulated(100), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
