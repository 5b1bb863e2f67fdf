"""Online rows are the bytes of the training rows, age as they do, and are nobody else's."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.contract import market as markets
from offers.contract.market import Feature, Market
from offers.data import snapshot
from offers.data.market import write_simulated
from offers.data.market_tables import opened
from offers.data.online import MOST_RECENT, OnlineUsers, UserEvent
from offers.data.point_in_time import write_features
from offers.data.snapshot import code_of
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
    rows, events = pd.read_parquet(tmp_path / "rows.parquet"), pd.read_parquet(directory / "interactions.parquet")
    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        for _, row in rows.iloc[[len(rows) // 4, len(rows) // 2, -1]].iterrows():
            moment = row["at"].to_datetime64()
            assert users.load(directory, store, moment)[1] == moment
            online = users.read(store, [row.user_id], moment)
            assert online.matrix.tobytes() == users.encoder.encode(pd.DataFrame([row])).tobytes()
            assert (online.moments[0], online.foreign) == (moment, 0)
            views = events[(events.event == "view") & (events.user_id == int(row.user_id)) & (events["at"] < moment)]
            codes = [code_of(one) for one in views.sort_values("at").product_id][-market.retrieval.history :]
            assert sorted(online.viewed[0, : len(codes)]) == sorted(codes)
            assert (online.viewed[0, len(codes) :] == -1).all()
    assert users.encoder.names[-4:] == ["clicks_7d", "clicks_90d", "engagement_30d", "since_click"]


def test_users_are_read_in_blocks_whose_lists_fit_into_memory(
    fintech: tuple[Market, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    market, directory = fintech
    moment = np.datetime64("2025-12-01", "us")

    def read() -> list[tuple[list[str], bytes, bytes]]:
        with opened(market, directory) as connection:
            parts = list(OnlineUsers(market).stream(connection, moment))
        return [(ids, rows.matrix.tobytes(), rows.viewed.tobytes()) for ids, rows in parts]

    (whole,) = read()
    monkeypatch.setattr(snapshot, "USERS", 40)
    blocks = read()
    assert len(blocks) == 8
    assert tuple(b"".join(one[place] for one in blocks) for place in (1, 2)) == whole[1:]  # type: ignore[misc]
    assert [one for ids, *_ in blocks for one in ids] == whole[0] == sorted(whole[0])


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
        early = users.read(old, ids, newest)
    counts = [users.encoder.names.index(name) for name in ("clicks_7d", "clicks_90d", "engagement_30d")]
    assert aged.matrix.tobytes() == fresh.matrix.tobytes()
    assert aged.stale == fresh.stale
    assert min(aged.stale.values()) > 0
    assert np.isnan(aged.matrix[:, 0]).sum() == aged.stale["users"]
    assert (early.matrix[:, counts] > 0).any()
    assert not (aged.matrix[:, counts] > 0).any()


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

        def load(self, rows: Iterable[tuple[str, bytes]]) -> None:
            assert len(list(rows)) == 300
            seen.append(sorted(directory.iterdir()))

    OnlineUsers(market).load(directory, Watching())
    assert seen == [before]


@pytest.fixture(scope="module")
def features() -> tuple[Feature, ...]:
    """Every kind of feature by user, with windows and times to live that a year of the market passes."""
    common = {"by": "user", "events": ("click", "view")}
    rows = (
        {"name": "all", "events": ("click",)},
        {"name": "weight", "aggregate": "weight"},
        {"name": "window", "windows": (3, 40)},
        {"name": "mortal", "aggregate": "weight", "windows": (5,), "time_to_live": 20},
        {"name": "mortal_all", "time_to_live": 20},
        {"name": "since", "aggregate": "recency"},
        {"name": "mortal_since", "aggregate": "recency", "time_to_live": 20},
    )
    return tuple(Feature.model_validate(common | row) for row in rows)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=4)
def test_live_events_move_a_row_to_what_the_tables_say_later(
    fintech: tuple[Market, Path], features: tuple[Feature, ...], seed: int
) -> None:
    market, directory = fintech
    retrieval = market.retrieval.model_copy(update={"history": 4})
    users = OnlineUsers(market.model_copy(update={"features": features, "retrieval": retrieval}))
    generator = np.random.default_rng(seed)
    begin, end = np.sort(np.datetime64("2025-02-01", "us") + generator.integers(0, 300 * 86_400_000_000, 2))
    table = pd.read_parquet(directory / "interactions.parquet")
    table = table[(table["at"] >= begin) & (table["at"] < end)]
    moments = table["at"].to_numpy().astype("datetime64[us]").astype(np.int64)
    live = [
        UserEvent(f"e{place}", str(user), kind, int(at), str(product))
        for place, (user, kind, at, product) in enumerate(
            zip(table.user_id, table.event, moments, table.product_id, strict=True)
        )
    ]
    joined = pd.read_parquet(directory / "users.parquet").joined_at
    ids = [str(number) for number in np.flatnonzero(joined.to_numpy() <= begin)]
    members = set(ids)
    live = [event for event in live if event.user in members]
    order = [*generator.permutation(len(live)), *generator.integers(0, len(live), 20)] if live else []
    with TemporaryDirectory() as scratch, SqliteOnlineStore(Path(scratch) / "users.db", new=True) as store:
        users.load(directory, store, begin)
        counts = Counter[str]()
        for part in np.array_split(np.array(order, int), 5):
            counts.update(users.apply(store, [live[place] for place in part]))
        moved = users.read(store, ids, end)
        users.load(directory, store, end)
        expected = users.read(store, ids, end)
    assert counts == Counter({"taken": len(live), "twice": 20 if live else 0}) - Counter()
    np.testing.assert_array_equal(moved.matrix, expected.matrix)
    np.testing.assert_array_equal(moved.viewed, expected.viewed)
    assert moved.stale == expected.stale


def test_a_live_event_that_can_not_count_is_left_out_and_said(fintech: tuple[Market, Path], tmp_path: Path) -> None:
    market, directory = fintech
    users = OnlineUsers(market)
    moment = np.datetime64("2026-01-01", "us")
    at = int(moment.astype(np.int64))
    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        users.load(directory, store, moment)
        before = store.get(["1"])
        left_out = [UserEvent("a", "1", "click", at - 1, "p"), UserEvent("b", "no one", "click", at, "p")]
        assert users.apply(store, left_out) == ["covered", "unknown_user"]
        assert store.get(["1", "no one"]) == [*before, None]
        many = [UserEvent(f"{number}", "1", "click", at + number, "p") for number in range(MOST_RECENT + 9)]
        counts = Counter(users.apply(store, [*many, many[-1], UserEvent("v", "1", "approval", at, "p")]))
        assert counts == {"taken": MOST_RECENT + 10, "twice": 1}
        row = users.read(store, ["1"], moment + np.timedelta64(1, "h")).matrix[0]
        assert row[users.encoder.names.index("clicks_7d")] == MOST_RECENT
