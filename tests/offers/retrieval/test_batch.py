"""All users of a market scored in one run: the recommender's answers, by parts that can be continued."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from offers.batch.market import OpenedMarket
from offers.batch.order import Options, Order, work_of
from offers.batch.volumes import volumes
from offers.data.online import OnlineUsers
from offers.errors import DataError, SourceError
from offers.retrieval.recommendation import Recommender
from offers.settings import Settings
from offers.store.online import SqliteOnlineStore
from tests.support.markets import SmallMarket

ROWS = 700
"""Users in a part."""


def order_of(market: SmallMarket, output: Path, **options: object) -> Order:
    places = {"bundle": str(market.bundle.path), "customers": str(market.tables), "output": str(output)}
    return Order(**places, options=Options(rows=ROWS, **options))


@pytest.fixture(scope="module")
def table(fintech: SmallMarket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scored") / "table"
    summary = work_of(order_of(fintech, output), Settings()).run(Settings(), lambda done: None)
    assert (summary.customers, summary.earlier, summary.parts) == (5000, 0, 8)
    return output


def rows_of(directory: Path) -> pa.Table:
    return pa.concat_tables([parquet.read_table(path) for path in sorted(directory.glob("part-*.parquet"))])


def test_each_user_gets_what_the_recommender_answers(fintech: SmallMarket, table: Path, tmp_path: Path) -> None:
    bundle, users = fintech.bundle, OnlineUsers(fintech.market)
    assert bundle.towers is not None
    with closing(SqliteOnlineStore(tmp_path / "users.db", new=True)) as store:
        _, moment = users.load(fintech.tables, store)
        ids = [str(number) for number in range(0, 5000, 97)]
        online = users.read(store, ids, moment)
    recommender, available = Recommender(bundle), bundle.products.launched <= moment
    scored = rows_of(table).to_pandas()
    scored["offer"] = scored["offer"].astype(str)
    by_user = dict(list(scored.groupby("customer", observed=True)))
    assert set(scored["bundle"].astype(str)) == {bundle.name}
    for one, row in zip(ids, bundle.rows(online), strict=True):
        answer, found = recommender.recommend(row, 10, available, one), by_user[one]
        places = answer.candidates[list(answer.offers)]
        assert list(found["offer"]) == [bundle.product_ids[place] for place in places]
        assert list(found["rank"]) == list(range(1, len(places) + 1))
        np.testing.assert_allclose(found["propensity"], answer.propensity[list(answer.offers)], rtol=1e-6)
        np.testing.assert_allclose(found["score"], answer.score[list(answer.offers)], rtol=1e-6)


def test_a_run_goes_on_after_the_parts_that_are_there(fintech: SmallMarket, table: Path, tmp_path: Path) -> None:
    again, before = tmp_path / "again", rows_of(table)
    again.mkdir()
    for path in table.iterdir():
        if path.name not in ("part-000003.parquet", "part-000008.parquet", "complete-1-of-1"):
            (again / path.name).write_bytes(path.read_bytes())
    summary = work_of(order_of(fintech, again), Settings()).run(Settings(), lambda done: None)
    assert (summary.customers, summary.earlier) == (5000, 5000 - ROWS - 100)
    assert rows_of(again).equals(before)


def test_shards_make_the_same_table_and_its_summary(fintech: SmallMarket, table: Path, tmp_path: Path) -> None:
    output, settings = tmp_path / "sharded", Settings(home=tmp_path)
    works = list(_sharded(fintech, output))
    done = sum(work.run(settings, lambda done: None, threads=1).customers for work in works)
    assert rows_of(output).equals(rows_of(table))
    summary = volumes(works[0], done, settings)
    assert (summary.customers, summary.answered) == (5000, 5000)
    assert [one.offer for one in summary.offers] == fintech.bundle.product_ids
    assert sum(one.first for one in summary.offers) == 5000
    assert summary.psi is not None


def _sharded(market: SmallMarket, output: Path) -> Iterator[OpenedMarket]:
    for number in (1, 2):
        work = work_of(order_of(market, output).model_copy(update={"shard": number, "shards": 2}), Settings())
        assert isinstance(work, OpenedMarket)
        yield work


def test_what_a_market_lacks_is_refused(fintech: SmallMarket, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pairs: a market's bundle takes none"):
        work_of(order_of(fintech, tmp_path, pairs=True), Settings())
    elsewhere = order_of(fintech, tmp_path).model_copy(update={"customers": str(tmp_path)})
    with pytest.raises(SourceError, match="there is no such file"):
        work_of(elsewhere, Settings())
