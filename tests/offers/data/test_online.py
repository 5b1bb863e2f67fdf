"""Online rows are the bytes of the training rows, age as they do, and are nobody else's."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offers.contract import market as markets
from offers.contract.market import Market
from offers.data.market import write_simulated
from offers.data.online import OnlineUsers
from offers.data.point_in_time import write_features
from offers.errors import SourceError
from offers.simulation.market import SimulatedMarket
from offers.store.online import SqliteOnlineStore

LATER = np.timedelta64(170, "D")


@pytest.fixture(scope="module")
def fintech(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, Path]:
    market = markets.load("fintech")
    sizes = {"users": 300, "products": 8, "views": 5}
    market = market.model_copy(update={"simulation": market.simulation.model_copy(update=sizes)})
    directory = tmp_path_factory.mktemp("fintech")
    write_simulated(SimulatedMarket(market, seed=6), directory)
    return market, directory


def test_a_row_has_the_bytes_that_training_sees_at_that_moment(fintech: tuple[Market, Path], tmp_path: Path) -> None:
    market, directory = fintech
    users = OnlineUsers(market)
    write_features(market, directory, "click", tmp_path / "rows.parquet")
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        for _, row in rows.iloc[[len(rows) // 4, len(rows) // 2, -1]].iterrows():
            moment = row["at"].to_datetime64()
            assert users.load(directory, store, moment)[1] == moment
            online = users.read(store, [row.user_id], moment)
            assert online.matrix.tobytes() == users.encoder.encode(pd.DataFrame([row])).tobytes()
            assert (online.moments[0], online.foreign) == (moment, 0)
    assert users.encoder.names[-4:] == ["clicks_7d", "clicks_90d", "engagement_30d", "since_click"]


def test_rows_age_as_training_rows_do(fintech: tuple[Market, Path], tmp_path: Path) -> None:
    market, directory = fintech
    users, ids = OnlineUsers(market), [str(number) for number in range(300)]
    with (
        SqliteOnlineStore(tmp_path / "old.db", new=True) as old,
        SqliteOnlineStore(tmp_path / "new.db", new=True) as new,
    ):
        count, newest = users.load(directory, old)
        now = newest + LATER
        assert count == 300
        assert users.load(directory, new, now)[0] == 300
        aged, fresh = (users.read(store, ids, now) for store in (old, new))
    counts = [users.encoder.names.index(name) for name in ("clicks_7d", "clicks_90d", "engagement_30d")]
    expected, actual = (np.delete(rows.matrix, counts, axis=1) for rows in (fresh, aged))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert aged.stale == fresh.stale
    assert min(aged.stale.values()) > 0
    assert np.isnan(aged.matrix[:, 0]).sum() == aged.stale["users"]
    assert (aged.matrix[:, counts] > 0).any()
    assert not (fresh.matrix[:, counts] > 0).any()


def test_a_user_who_is_not_there_yet_or_of_another_contract_is_missing(
    fintech: tuple[Market, Path], tmp_path: Path
) -> None:
    market, directory = fintech
    users = OnlineUsers(market)
    joined = pd.read_parquet(directory / "users.parquet").joined_at
    moment = np.datetime64("2025-06-01T00:00:00", "us")
    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        assert users.load(directory, store, moment)[0] == (joined <= moment).sum()
        late, early = str(joined.idxmax()), str(joined.idxmin())
        rows = users.read(store, [late, early, "a/ü"], moment)
        assert np.isnan(rows.matrix).all(axis=1).tolist() == [True, False, True]
        assert np.isnat(rows.moments).tolist() == [True, False, True]
        features = tuple(
            one.model_copy(update={"windows": (1, 90)}) if one.name == "clicks" else one for one in market.features
        )
        other = OnlineUsers(market.model_copy(update={"features": features}))
        foreign = other.read(store, [late, early], moment)
        assert (foreign.foreign, np.isnan(foreign.matrix).all(), np.isnat(foreign.moments).all()) == (1, True, True)
        bigger = market.model_copy(update={"simulation": market.simulation.model_copy(update={"users": 5})})
        assert OnlineUsers(bigger).read(store, [early], moment).foreign == 0


def test_a_market_in_which_nothing_has_happened_needs_a_moment(fintech: tuple[Market, Path], tmp_path: Path) -> None:
    market, directory = fintech
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    events = pd.read_parquet(directory / "interactions.parquet")
    events.iloc[:0].to_parquet(tmp_path / "interactions.parquet")
    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        with pytest.raises(SourceError, match="use --as-of"):
            OnlineUsers(market).load(tmp_path, store)
        assert OnlineUsers(market).load(tmp_path, store, np.datetime64("2026-01-01", "us"))[0] == 300


def test_a_load_writes_nothing_beside_the_tables_which_may_be_read_only(fintech: tuple[Market, Path]) -> None:
    market, directory = fintech
    before, seen = sorted(directory.iterdir()), []

    class Watching(SqliteOnlineStore):
        def __init__(self) -> None:
            pass

        def put(self, rows: Iterable[tuple[str, bytes]]) -> None:
            assert len(list(rows)) == 300
            seen.append(sorted(directory.iterdir()))

    OnlineUsers(market).load(directory, Watching())
    assert seen == [before]
