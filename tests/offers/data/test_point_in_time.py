"""Features at a moment: equal to a count by hand, blind to all that comes later, and missing when they are too old."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offers.contract import market as markets
from offers.contract.market import Feature, Market
from offers.data.market import write_simulated
from offers.data.point_in_time import write_features
from offers.errors import ContractError, OffersError, SourceError
from offers.simulation.market import SimulatedMarket

DAY = pd.Timedelta(days=1)
BOOKS = markets.parse(
    """\
name: books
title: Books
users: {file: users.csv, key: reader, time: since, time_to_live: 100}
products: {file: books.csv, key: book, time: since}
interactions: {file: loans.csv}
columns:
  - {name: years, role: customer, type: integer, min: 3, max: 99, missing: [-1]}
  - {name: likes, role: customer, type: category, values: [crime, poetry]}
  - {name: genre, role: offer, type: category, values: [poetry, crime]}
pairs: [{name: in_genre, user: likes, product: genre, measure: equal}]
events: [{name: seen}, {name: taken, weight: 2.5, typical: 0.5}]
features:
  - {name: seen, by: user, events: [seen], windows: [2, 30], time_to_live: 20}
  - {name: sum, by: product, events: [seen, taken], aggregate: weight}
"""
)
TABLES = {
    "users.csv": (
        'reader,since,years,likes\n007,2025-01-01,30,crime\n007,2025-02-01,31,poetry\n"a/b ""ü",2025-01-05,-1,crime\n'
    ),
    "books.csv": "book,since,genre\n1,2025-01-01,poetry\n2,2025-01-20,crime\n",
    "loans.csv": (
        "reader,book,event,at,position\n"
        "007,2,seen,2025-03-01 00:00:00,3\n"
        "007,1,seen,2025-01-10 00:00:00,1\n"
        "007,1,taken,2025-01-10 00:00:00,1\n"
        "007,1,seen,2025-01-11 12:00:00,1\n"
        '"a/b ""ü",1,seen,2025-01-12 00:00:00,2\n'
        "007,1,seen,2025-06-01 00:00:00,1\n"
    ),
}


def written(directory: Path, **changes: str) -> Path:
    for name, content in (TABLES | {f"{name}.csv": text for name, text in changes.items()}).items():
        (directory / name).write_text(content, "utf-8")
    return directory


def joined(market: Market, directory: Path, event: str) -> pd.DataFrame:
    output = directory / "out" / "rows.parquet"
    output.parent.mkdir(exist_ok=True)
    write_features(market, directory, event, output)
    assert [path.name for path in output.parent.iterdir()] == ["rows.parquet"]
    return pd.read_parquet(output)


def test_rows_are_as_computed_by_hand(tmp_path: Path) -> None:
    rows = joined(BOOKS, written(tmp_path), "seen")
    nan = np.nan
    expected = pd.DataFrame(
        {
            "reader": ["007", "007", 'a/b "ü', "007", "007"],
            "book": ["1", "1", "1", "2", "1"],
            "at": pd.to_datetime(
                ["2025-01-10", "2025-01-11 12:00", "2025-01-12", "2025-03-01", "2025-06-01"], format="ISO8601"
            ),
            "position": [1, 1, 2, 3, 1],
            # The profile of February is beyond its 100 days in June; -1 stands for an age that is not known.
            "years": [30, 30, nan, 31, nan],
            "likes": ["crime", "crime", "crime", "poetry", None],
            "genre": ["poetry", "poetry", "poetry", "crime", "poetry"],
            "in_genre": [0, 0, 0, 0, nan],
            "seen_2d": [nan, 1, nan, nan, nan],
            "seen_30d": [nan, 1, nan, nan, nan],
            "sum": [0, 3.5, 4.5, 0, 5.5],
        }
    )
    pd.testing.assert_frame_equal(rows, expected, check_dtype=False)


def test_what_is_beyond_its_time_to_live_is_counted(tmp_path: Path) -> None:
    counts = write_features(BOOKS, written(tmp_path), "seen", tmp_path / "rows.parquet")
    assert (counts.rows, counts.stale) == (5, {"users": 1, "seen": 2})


@pytest.fixture(scope="module")
def fintech(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, Path]:
    market = markets.load("fintech")
    sizes = {"users": 60, "products": 8, "views": 25}
    market = market.model_copy(update={"simulation": market.simulation.model_copy(update=sizes)})
    directory = tmp_path_factory.mktemp("fintech")
    write_simulated(SimulatedMarket(market, seed=6), directory)
    return market, directory


def by_hand(feature: Feature, market: Market, events: pd.DataFrame, row: pd.Series) -> list[float]:
    keys = {"user": ["user_id"], "product": ["product_id"], "pair": ["user_id", "product_id"]}[feature.by]
    mine = events[(events["at"] < row["at"]) & events.event.isin(feature.events)]
    for key in keys:
        mine = mine[mine[key] == row[key]]
    age = (row["at"] - mine["at"].max()) / DAY
    values = []
    for window in feature.columns.values():
        near = mine if window is None else mine[mine["at"] >= row["at"] - window * DAY]
        weights = near.event.map({event.name: event.weight for event in market.events}).astype(float)
        value = {"count": float(len(near)), "weight": weights.sum(), "recency": age}[feature.aggregate]
        limit = feature.time_to_live
        values.append(np.nan if limit is not None and not age <= limit else value)
    return values


def test_features_of_a_simulated_market_are_as_computed_by_hand(fintech: tuple[Market, Path]) -> None:
    market, directory = fintech
    rows = joined(market, directory, "view")
    events = pd.read_parquet(directory / "interactions.parquet")
    events = events.assign(user_id=events.user_id.astype(str), product_id=events.product_id.astype(str))
    assert len(rows) == (events.event == "view").sum()
    for _, row in rows.sample(40, random_state=1).iterrows():
        for feature in market.features:
            actual = row[list(feature.columns)].to_numpy(float)
            np.testing.assert_allclose(actual, by_hand(feature, market, events, row), rtol=1e-9, err_msg=feature.name)
    assert (rows.risk_gap - (rows.risk_tolerance - rows.risk)).abs().max() < 1e-12


def test_nothing_that_comes_later_changes_a_row(fintech: tuple[Market, Path], tmp_path: Path) -> None:
    market, directory = fintech
    moment, rng = pd.Timestamp("2025-07-01"), np.random.default_rng(1)
    before = joined(market, directory, "view").query("at < @moment")
    events = pd.read_parquet(directory / "interactions.parquet").astype({"product_id": str, "event": str})
    later = (events["at"] >= moment).to_numpy()
    for column in ("user_id", "product_id", "event", "position"):
        events.loc[later, column] = rng.permutation(events.loc[later, column].to_numpy())
    events.loc[later, "at"] = moment + pd.to_timedelta(rng.integers(0, 10**7, later.sum()), "s")
    events.sample(frac=1, random_state=1).to_parquet(tmp_path / "interactions.parquet")
    users = pd.read_parquet(directory / "users.parquet")
    pd.concat([users, users.assign(joined_at=moment, income=1.0)]).to_parquet(tmp_path / "users.parquet")
    (tmp_path / "products.csv").write_bytes((directory / "products.csv").read_bytes())
    shuffled = joined(market, tmp_path, "view")
    pd.testing.assert_frame_equal(shuffled.query("at < @moment"), before)
    assert len(before) > 300
    there_before = shuffled.user_id.isin(users[users.joined_at < moment].user_id.astype(str))
    assert shuffled[there_before & (shuffled["at"] > moment)].income.eq(1.0).all()


@pytest.mark.parametrize(
    ("table", "change", "sentence"),
    [
        ("users", lambda text: text.replace("likes", "loves"), "users.csv: it lacks the column 'likes'; it has reader"),
        (
            "users",
            lambda text: text.replace("poetry", "war"),
            "'likes' has 1 values outside of the contract, such as 'war'",
        ),
        ("users", lambda text: text.replace("31", "311"), "'years' has 1 values outside of the contract, such as 311"),
        ("users", lambda text: text.replace("31", "old"), "users.csv: can't be read: "),
        (
            "users",
            lambda text: text.replace("poetry", ""),
            "'likes' has 1 values outside of the contract, such as None",
        ),
        ("users", lambda text: text + "007,2025-01-01,5,crime\n", "id '007' stands twice at 2025-01-01"),
        ("users", lambda text: text + ",2025-01-01,5,crime\n", "a row without id or moment"),
        ("loans", lambda text: text.replace("taken", "stolen"), "one of the events 'seen', 'taken'; one has 'stolen'"),
        ("loans", lambda text: text.replace("2025-06-01 00:00:00", ""), "each row needs a moment"),
        ("loans", lambda text: text.splitlines()[0] + "\n", "there are no interactions of this kind"),
        ("books", lambda _: "\x00\x01", "books.csv: "),
    ],
)
def test_a_table_that_breaks_the_contract_is_refused(
    tmp_path: Path, table: str, change: Callable[[str], str], sentence: str
) -> None:
    written(tmp_path, **{table: change(TABLES[f"{table}.csv"])})
    with pytest.raises(SourceError) as refusal:
        write_features(BOOKS, tmp_path, "seen", tmp_path / "rows.parquet")
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(TABLES)


def test_an_unknown_event_and_a_missing_table_are_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="expected one of the events seen, taken, got 'sold'"):
        write_features(BOOKS, tmp_path, "sold", tmp_path / "rows.parquet")
    with pytest.raises(SourceError, match=r"users\.csv: there is no such file"):
        write_features(BOOKS, tmp_path, "seen", tmp_path / "rows.parquet")
    with pytest.raises(OffersError, match="there is no such file or directory"):
        write_features(BOOKS, tmp_path, "seen", tmp_path / "away" / "rows.parquet")
