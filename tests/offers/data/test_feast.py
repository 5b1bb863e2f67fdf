"""What a market gives to Feast: an as-of join of it, by pandas or by Feast, has our rows; what Feast serves is ours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from offers.contract import market as markets
from offers.contract.market import Market
from offers.data.feast_online import FeastOnlineStore, users_at
from offers.data.feast_repository import DATA, write_repository, write_tables
from offers.data.feast_views import FROM, NEWEST, project, service, views
from offers.data.market import write_simulated
from offers.data.online import OnlineUsers
from offers.data.online_row import RowForm
from offers.data.point_in_time import write_features
from offers.errors import ContractError, StorageError
from offers.simulation.market import SimulatedMarket
from offers.store.online import SqliteOnlineStore
from tests.support import feast
from tests.support.feast import FeatureServer, answer_of

DAY = 86_400_000_000
EXACT = 1000
MIDDLE = pd.Timestamp("2025-07-01")
# Windows beyond the time to live and within it, and a sum over all time.
MORE = """\
features:
  - {name: looks, by: user, events: [view], windows: [2, 30], time_to_live: 20}
  - {name: ever, by: user, events: [click, approval], aggregate: weight, time_to_live: 90}
  - {name: asked, by: product, events: [application, approval], aggregate: weight}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, Path]:
    """A market whose users change, whose events arrive out of order, and where one user meets every limit."""
    text = markets.text("fintech").replace("features:\n", MORE).replace("time_to_live: 1400", "time_to_live: 150")
    text = text.replace("users: 20000, products: 100, days: 365, views: 20", "users: 80, products: 9, views: 15")
    market, directory = markets.parse(text), tmp_path_factory.mktemp("market")
    write_simulated(SimulatedMarket(market, seed=2), directory)
    users = pd.read_parquet(directory / "users.parquet")
    moved = users[users.joined_at < MIDDLE].assign(joined_at=MIDDLE, region="north", income=1.0)
    begin = pd.Timestamp("2025-02-01")
    exact = users.head(1).assign(user_id=EXACT, joined_at=begin)
    pd.concat([users, moved, exact]).to_parquet(directory / "users.parquet")
    events = pd.read_parquet(directory / "interactions.parquet").astype({"event": str})
    one = events.head(1).assign(user_id=EXACT, at=begin)
    steps = [0, 1, *(days * DAY + step for days in (2, 7, 20, 30, 60, 90, 150, 180) for step in (-1, 0, 1))]
    asked = [one.assign(event="application", at=begin + pd.Timedelta(step, "us")) for step in steps]
    more = [*(one.assign(event=event) for event in ("view", "click", "approval")), *asked]
    pd.concat([events, *more]).sample(frac=1, random_state=3).to_parquet(directory / "interactions.parquet")
    return market, directory


@pytest.fixture(scope="module")
def repository(shop: tuple[Market, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    market, tables = shop
    directory = tmp_path_factory.mktemp("repository")
    write_repository(market, directory)
    write_tables(market, tables, directory)
    return directory


def known(market: Market, tables: Path, output: Path) -> pd.DataFrame:
    """What was known at views and at applications."""
    for event in ("view", "application"):
        write_features(market, tables, event, output / f"{event}.parquet")
    return pd.concat([pd.read_parquet(output / f"{event}.parquet") for event in ("view", "application")])


def as_of(market: Market, repository: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Join by pandas what Feast would join."""
    rows = rows.sort_values("event_timestamp")
    for view in views(market):
        table = pd.read_parquet(repository / DATA / f"{view.name}.parquet").sort_values(FROM)
        limit = pd.Timedelta(days=view.days) if view.days else None
        keys = {"left_on": "event_timestamp", "right_on": FROM, "by": list(view.keys), "tolerance": limit}
        rows = pd.merge_asof(rows, table, **keys).drop(columns=FROM)
    return rows


def compare(market: Market, rows: pd.DataFrame, join: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Compare our rows with what a join gives for their keys and moments."""
    rows = rows.reset_index(drop=True)
    moments = rows["at"].dt.as_unit("us").dt.tz_localize("UTC")
    keys = pd.DataFrame({"user_id": rows.user_id, "product_id": rows.product_id, "event_timestamp": moments})
    joined = join(keys.assign(place=np.arange(len(keys)))).sort_values("place", ignore_index=True)
    assert joined.place.tolist() == list(range(len(rows)))
    for column in market.columns:
        actual, expected = joined[column.name], rows[column.name]
        assert actual.isna().tolist() == expected.isna().tolist(), column.name
        assert actual.dropna().tolist() == expected.dropna().tolist(), column.name
    for feature in market.features:
        for name in feature.columns:
            if feature.aggregate == "recency":
                values = (moments.astype("int64").to_numpy() - joined[NEWEST + name].to_numpy(float)) / DAY
            else:
                values = joined[name].to_numpy(float)
            values = values if feature.ages else np.nan_to_num(values)
            np.testing.assert_allclose(values, rows[name].to_numpy(float), rtol=1e-12, err_msg=name)


def test_an_as_of_join_of_the_tables_has_our_rows(shop: tuple[Market, Path], repository: Path, tmp_path: Path) -> None:
    market, tables = shop
    rows = known(market, tables, tmp_path)
    compare(market, rows, lambda keys: as_of(market, repository, keys))
    # All that can be missing is, in some rows.
    for name in ("income", "region", "looks_2d", "ever", "since_click", "since_pair_view"):
        assert 0 < rows[name].isna().mean() < 1, name


def test_nothing_that_comes_later_changes_a_table(shop: tuple[Market, Path], repository: Path, tmp_path: Path) -> None:
    market, tables = shop
    for name in ("users.parquet", "products.csv"):
        (tmp_path / name).write_bytes((tables / name).read_bytes())
    events = pd.read_parquet(tables / "interactions.parquet").astype({"product_id": str, "event": str})
    later = (events["at"] >= MIDDLE).to_numpy()
    for column in ("user_id", "product_id", "event"):
        events.loc[later, column] = np.random.default_rng(1).permutation(events.loc[later, column].to_numpy())
    events.to_parquet(tmp_path / "interactions.parquet")
    write_tables(market, tmp_path, tmp_path)
    for view in (view for view in views(market) if view.feature):
        ours, others = (pd.read_parquet(one / DATA / f"{view.name}.parquet") for one in (repository, tmp_path))
        assert not ours.equals(others)
        ours, others = (one[one[FROM] <= MIDDLE.tz_localize("UTC")] for one in (ours, others))
        pd.testing.assert_frame_equal(ours.reset_index(drop=True), others.reset_index(drop=True))
        assert len(ours) > 20


def test_a_repository_is_the_same_bytes_and_leaves_the_banks_stores_alone(
    shop: tuple[Market, Path], repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: bank\n")
    write_repository(shop[0], tmp_path)
    write_tables(*shop, tmp_path)
    assert (tmp_path / "feature_store.yaml").read_text() == "project: bank\n"
    files = [Path("definitions.py"), *(Path(DATA, f"{view.name}.parquet") for view in views(shop[0]))]
    assert [str(file) for file in files if (tmp_path / file).read_bytes() != (repository / file).read_bytes()] == []
    compile((repository / "definitions.py").read_text(), "definitions.py", "exec")


def test_what_feast_does_not_take_is_refused(tmp_path: Path) -> None:
    for name in ("age:years", "offers_age", "the age"):
        text = markets.text("fintech").replace("{name: age,", f"{{name: '{name}',")
        with pytest.raises(ContractError, match=f"Feast takes letters.*got '{name}'"):
            write_repository(markets.parse(text), tmp_path / "none")
    text = markets.text("fintech").replace("time_to_live: 1400", "time_to_live: 1.5")
    with pytest.raises(ContractError, match=r"takes a time to live of whole days; users has 1\.5"):
        write_repository(markets.parse(text), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@contextmanager
def answering(market: Market, answer: Any, status: int = 200) -> Iterator[FeastOnlineStore]:
    with FeatureServer(answer, status) as server, FeastOnlineStore(server.place, RowForm(market), patience=5) as store:
        yield store


def test_a_row_of_another_contract_is_foreign_and_an_unknown_user_has_none(shop: tuple[Market, Path]) -> None:
    market, now = shop[0], np.datetime64("2025-12-10", "us")
    since, click = (int(np.datetime64(day, "us").astype(int)) for day in ("2025-11-01", "2025-12-08"))
    ours = {
        "offers_contract": OnlineUsers(market).form.hex(),
        "offers_since": since,
        "region": "south",
        "income": 700.0,
    }
    ours |= {
        "home_owner": True,
        f"{NEWEST}since_click": click,
        f"{NEWEST}ever": None,
        "clicks_7d": 3.0,
        "offers_viewed": [5, 4],
    }
    users = users_at(market, "feast+http://anywhere")
    with answering(market, answer_of(market, ours, {}, ours | {"offers_contract": "0" * 16})) as store:
        rows = users.read(store, ["a", "b", "c"], now)
        later = users.read(store, ["a"] * 3, now + np.timedelta64(200, "D"))
    row = dict(zip(users.encoder.names, rows.matrix[0].tolist(), strict=True))
    assert (row["region"], row["income"], row["home_owner"], row["since_click"]) == (2, 700, 1, 2)
    # No row of events is none, unless a time to live says that it is not known.
    assert (row["clicks_7d"], row["engagement_30d"]) == (3, 0)
    assert np.isnan([row["looks_2d"], row["ever"], row["age"]]).all()
    assert np.isnan(rows.matrix[1:]).all()
    assert np.isnat(rows.moments).tolist() == [False, True, True]
    assert (rows.foreign, rows.viewed[0, :3].tolist()) == (1, [5, 4, -1])
    # An event that has been, and that Feast no longer tells, is beyond its time to live.
    assert rows.stale == {"users": 0, "looks": 0, "ever": 1, "since_click": 0}
    assert later.stale == {"users": 1, "looks": 0, "ever": 1, "since_click": 1}
    assert np.isnan(later.matrix[0, users.encoder.names.index("region")])


@pytest.mark.parametrize(
    ("answer", "status", "sentence"),
    [
        ({"results": []}, 200, "its answer has not the market's features: KeyError"),
        ({"metadata": {"feature_names": ["region"]}, "results": []}, 200, "its answer has not the market's features"),
        ("no such service", 404, "answered 404 when asked for the feature service 'fintech_recommender'"),
        ("fault", 500, "answered 500"),
    ],
)
def test_an_answer_that_is_none_is_one_sentence(
    shop: tuple[Market, Path], answer: Any, status: int, sentence: str
) -> None:
    with answering(shop[0], answer, status) as store, pytest.raises(StorageError, match=sentence) as refusal:
        store.get(["42"])
    assert refusal.value.passes == (status == 500)


def test_a_place_that_is_none_or_does_not_answer_is_one_sentence(shop: tuple[Market, Path]) -> None:
    users = users_at(shop[0], "feast+")
    for place in ("feast+http://a:b@host", "feast+ftp://host", "feast+http://", "feast+http://host/path", "feast+"):
        with pytest.raises(StorageError, match=r"expected feast\+http://HOST:PORT, without a password") as refusal:
            users.open(place)
        assert "a:b" not in str(refusal.value)
    with FeatureServer({}) as server:
        pass
    with FeastOnlineStore(server.place, RowForm(shop[0]), patience=1) as store:
        with pytest.raises(StorageError, match=r"the online store can't be used") as refusal:
            store.get(["42"])
        assert refusal.value.passes
        with pytest.raises(StorageError, match="is loaded by 'feast materialize'"):
            users.load(shop[1], store)


@pytest.mark.slow
def test_feast_joins_and_serves_our_rows(shop: tuple[Market, Path], repository: Path, tmp_path: Path) -> None:
    market, tables = shop
    feast.apply(repository)
    rows = known(market, tables, tmp_path)
    training = f"{project(market)}_training"
    compare(market, rows, lambda keys: feast.historical(repository, training, keys))

    ours, ids = OnlineUsers(market), [*map(str, range(80)), str(EXACT), "nobody"]
    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        _, moment = ours.load(tables, store)
        feast.materialize(repository, str(moment))
        with feast.served(repository) as place, users_at(market, place).open(place) as served:  # type: ignore[attr-defined]
            for now in (moment, moment + np.timedelta64(45, "D")):
                expected, actual = ours.read(store, ids, now), users_at(market, place).read(served, ids, now)
                windows = [name for one in market.features for name, days in one.columns.items() if days]
                same = [place for place, name in enumerate(ours.encoder.names) if now == moment or name not in windows]
                assert actual.matrix[:, same].tobytes() == expected.matrix[:, same].tobytes()
                assert (actual.stale, actual.foreign) == (expected.stale, 0)
                assert (actual.viewed == expected.viewed).all()
                assert (np.isnat(actual.moments) == np.isnat(expected.moments)).all()
            assert np.isnat(expected.moments[-1])
    assert service(market) == "fintech_recommender"
