"""Scored rows and outcomes are read as they were written, or refused in one sentence that says where and why."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offers.contract.contract import Contract
from offers.decisions.period import Period, span
from offers.decisions.scored import faults, no_outcomes, read_outcomes, read_scored, served
from offers.errors import DataError, OffersError, SourceError
from offers.settings import Settings
from offers.store.store import open_store
from tests.support import small
from tests.support.s3_double import S3Double

NOW = "2024-06-01"


@pytest.fixture(scope="module")
def contract() -> Contract:
    return small.contract()


def scored(**columns: object) -> pd.DataFrame:
    known = {
        "decision_id": ["d1", "d2", "d3"],
        "customer_id": ["c1", "c2", "c3"],
        "scored_at": pd.to_datetime(["2024-05-03", "2024-05-01", "2024-05-02"], utc=True),
        "bundle": "small-0123456789abcdef",
        "_propensity": [0.1, 0.2, 0.3],
        "age": [30.0, np.nan, 50.0],
        "job": ["clerk", None, "retired"],
    }
    return pd.DataFrame(known | columns)


def outcomes(**columns: object) -> pd.DataFrame:
    known = {
        "decision_id": ["d1", "d2"],
        "outcome": [True, False],
        "observed_at": pd.to_datetime(["2024-05-05", "2024-05-04"], utc=True),
    }
    return pd.DataFrame(known | columns)


def at(frame: pd.DataFrame, folder: Path, name: str = "rows.parquet") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)
    return str(path)


def test_rows_come_back_in_the_order_of_their_scoring(contract: Contract, settings: Settings, tmp_path: Path) -> None:
    table = read_scored(at(scored(), tmp_path), contract, settings)
    assert table.frame["decision_id"].tolist() == ["d2", "d3", "d1"]
    assert table.frame["age"].tolist()[1:] == [50.0, 30.0]
    assert np.isnan(table.frame["age"][0])
    assert table.frame["job"].tolist() == [None, "retired", "clerk"]
    assert table.repeated == 0


def test_a_directory_holds_any_number_of_files(contract: Contract, settings: Settings, tmp_path: Path) -> None:
    at(scored()[:2], tmp_path / "rows", "2024-05-03/a.parquet")
    at(scored()[2:], tmp_path / "rows", "2024-05-04/b.parquet")
    (tmp_path / "rows" / "notes.txt").write_text("not rows")
    assert len(read_scored(str(tmp_path / "rows"), contract, settings).frame) == 3


def test_folders_of_days_before_are_left_out(contract: Contract, settings: Settings, tmp_path: Path) -> None:
    rows, since = tmp_path / "rows", datetime(2024, 5, 3, 6, tzinfo=UTC)
    at(scored()[:1], rows, "2024-05-02/235959.parquet")
    at(scored()[1:2], rows, "by-hand/more.parquet")
    at(scored()[2:], rows, "2024-99-99/no-day.parquet")
    (rows / "2024-05-01").mkdir()
    (rows / "2024-05-01" / "000000.parquet").write_text("never looked at")
    assert len(read_scored(str(rows), contract, settings, since).frame) == 3
    with pytest.raises(SourceError, match=r"2024-05-01/000000.parquet: expected scored rows as Parquet"):
        read_scored(str(rows), contract, settings)


def test_where_all_folders_are_of_days_before_the_newest_tells_the_columns(
    contract: Contract, settings: Settings, tmp_path: Path
) -> None:
    for day in ("2024-05-01", "2024-05-02"):
        at(scored(decision_id=[f"{day}-{row}" for row in range(3)]), tmp_path / "rows", f"{day}/a.parquet")
    read = read_scored(str(tmp_path / "rows"), contract, settings, datetime(2024, 6, 1, tzinfo=UTC)).frame
    assert read["decision_id"].str.startswith("2024-05-02").all()


SERVED = [
    ("", "", "small-2222222222222222"),
    ("", "2024-05-02T12:00", "small-3333333333333333"),
    ("", "2024-05-03", "small-3333333333333333"),
    ("2024-05-01", "2024-05-02", "small-1111111111111111"),
    ("12h", "2024-05-03T06:00", "small-2222222222222222"),
]


@pytest.mark.parametrize(("since", "until", "bundle"), SERVED)
def test_the_bundle_that_served_scored_the_newest_row_of_the_period(
    since: str, until: str, bundle: str, settings: Settings, tmp_path: Path
) -> None:
    names = ["small-2222222222222222", "small-1111111111111111", "small-3333333333333333"]
    rows = scored(bundle=names)
    for row, day in enumerate(("2024-05-03", "2024-05-01", "2024-05-02")):
        at(rows[row : row + 1], tmp_path / "rows", f"{day}/a.parquet")
    assert served(str(tmp_path / "rows"), Period.parse(since, until, NOW), settings) == bundle


def test_a_period_that_nobody_served_is_refused(settings: Settings, tmp_path: Path) -> None:
    where = at(scored(), tmp_path / "rows")
    with pytest.raises(DataError) as error:
        served(str(tmp_path / "rows"), Period.parse("7d", "", NOW), settings)
    assert str(error.value) == (
        f"{tmp_path / 'rows'}: expected rows scored from 2024-05-25 00:00 until 2024-06-01 00:00 UTC, found none: "
        "see whether customers are ranked, and whether the ranker writes there"
    )
    with pytest.raises(DataError, match="expected rows scored until 2024-05-01 00:00 UTC, found none"):
        served(where, Period.parse("", "2024-05-01", NOW), settings)
    with pytest.raises(DataError, match="expected scored rows with the columns scored_at, bundle; missing: bundle"):
        served(at(scored().drop(columns="bundle"), tmp_path), Period.parse("", "", NOW), settings)


def test_words_may_be_dictionaries_and_numbers_of_any_kind(
    contract: Contract, settings: Settings, tmp_path: Path
) -> None:
    frame = scored(age=pd.array([30, None, 50], "Int32"), job=pd.Categorical(["clerk", None, "retired"]))
    pd.testing.assert_frame_equal(
        read_scored(at(frame, tmp_path), contract, settings).frame,
        read_scored(at(scored(), tmp_path, "plain.parquet"), contract, settings).frame,
    )


def test_values_that_stand_for_missing_are_missing(settings: Settings, tmp_path: Path, shop_contract: Contract) -> None:
    frame = scored().drop(columns=["age", "job"])
    inputs = {"spending": 1.0, "visits": [99, 3, 4], "channel": "web", "region": "north", "member": True, "rating": 1.0}
    read = read_scored(at(frame.assign(**inputs), tmp_path), shop_contract, settings).frame.sort_values("decision_id")
    assert read["visits"].isna().tolist() == [True, False, False]
    assert read["member"].tolist() == [1.0, 1.0, 1.0]


def test_rows_in_the_object_store(s3: S3Double, contract: Contract, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, s3=s3.settings)
    store = open_store("s3://bank/scored", settings)
    store.write_bytes("2024-05-03/a.parquet", Path(at(scored(), tmp_path)).read_bytes())
    assert len(read_scored("s3://bank/scored", contract, settings).frame) == 3
    assert len(read_scored("s3://bank/scored/2024-05-03/a.parquet", contract, settings).frame) == 3
    with pytest.raises(SourceError, match="expected scored rows as a Parquet file or a directory"):
        read_scored("s3://bank/nothing", contract, settings)


def test_a_repeated_delivery_counts_once(contract: Contract, settings: Settings, tmp_path: Path) -> None:
    table = read_scored(at(pd.concat([scored(), scored()[1:]]), tmp_path), contract, settings)
    assert (len(table.frame), table.repeated) == (3, 2)
    again = outcomes(observed_at=pd.to_datetime(["2024-05-08", "2024-05-09"], utc=True))
    known = read_outcomes(at(pd.concat([again, outcomes()]), tmp_path, "outcomes.parquet"), settings)
    assert (len(known.frame), known.repeated) == (2, 2)
    assert known.frame["observed_at"].max() == datetime(2024, 5, 5, tzinfo=UTC)


SCORED_MISTAKES: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "column missing": (lambda: scored().drop(columns="job"), "missing: job"),
    "column unknown": (lambda: scored(mood="fine"), "unknown: mood"),
    "both": (lambda: scored().rename(columns={"age": "Age"}), "missing: age; unknown: Age"),
    "words for numbers": (lambda: scored(age="old"), "expected numbers in column 'age', got .*string"),
    "numbers for words": (lambda: scored(job=1.5), "expected text in column 'job', got double"),
    "no timestamp": (lambda: scored(scored_at="today"), "expected timestamps in column 'scored_at', got .*string"),
    "no moment": (
        lambda: scored(scored_at=pd.to_datetime(["2024-05-03", None, "2024-05-02"], utc=True)),
        r"row 2: expected a value in column 'scored_at', got nothing",
    ),
    "no propensity": (
        lambda: scored(_propensity=[0.1, 0.2, np.nan]),
        "row 3: expected a value in column '_propensity'",
    ),
    "propensity above 1": (
        lambda: scored(_propensity=[0.1, 7, 0.3]),
        r"'d2': expected a propensity in \[0, 1\], got 7",
    ),
    "no decision": (lambda: scored(decision_id=["d1", None, "d3"]), "row 2: expected a value in column 'decision_id'"),
    "two contents": (lambda: scored(decision_id=["d1", "d1", "d3"]), "decision 'd1' is there twice, with different"),
}


@pytest.mark.parametrize("mistake", SCORED_MISTAKES)
def test_rows_that_cannot_be_used_are_refused_in_a_sentence(
    mistake: str, contract: Contract, settings: Settings, tmp_path: Path
) -> None:
    frame, message = SCORED_MISTAKES[mistake]
    with pytest.raises(DataError, match=message) as error:
        read_scored(at(frame(), tmp_path), contract, settings)
    assert "\n" not in str(error.value)


OUTCOME_MISTAKES: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "column missing": (lambda: outcomes().drop(columns="observed_at"), "missing: observed_at"),
    "words": (lambda: outcomes(outcome="yes"), "expected true and false in column 'outcome', got .*string"),
    "empty": (
        lambda: outcomes(outcome=pd.array([True, None], "boolean")),
        "row 2: expected a value in column 'outcome'",
    ),
    "two outcomes": (lambda: outcomes(decision_id="d1"), "decision 'd1' is there twice, with different content"),
}


@pytest.mark.parametrize("mistake", OUTCOME_MISTAKES)
def test_outcomes_that_cannot_be_used_are_refused_in_a_sentence(
    mistake: str, settings: Settings, tmp_path: Path
) -> None:
    frame, message = OUTCOME_MISTAKES[mistake]
    with pytest.raises(DataError, match=message):
        read_outcomes(at(frame(), tmp_path), settings)


def test_files_that_are_none_are_refused(contract: Contract, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.parquet").write_bytes(Path(at(scored(), tmp_path)).read_bytes()[:-20])
    for where in ("empty", "absent.parquet", "absent"):
        with pytest.raises(SourceError, match=r"a Parquet file or a directory of \.parquet files, found none"):
            read_outcomes(str(tmp_path / where), settings)
    with pytest.raises(SourceError, match=r"torn.parquet: expected scored rows as Parquet, but it can't be read"):
        read_scored(str(tmp_path / "torn.parquet"), contract, settings)


def test_no_outcomes_have_the_form_of_some(settings: Settings, tmp_path: Path) -> None:
    some, none = read_outcomes(at(outcomes(), tmp_path), settings).frame, no_outcomes().frame
    assert none.dtypes.to_dict() == some.dtypes.to_dict()
    assert none.empty


def test_faults_are_what_the_contract_forbids(shop_contract: Contract) -> None:
    rows = pd.DataFrame(
        {
            "spending": [1.0, -5.0, 20000.0, np.inf, np.nan],
            "visits": [1.0, 2.5, np.nan, 60.0, 3.0],
            "channel": ["web", "fax", None, "mail", "web"],
            "region": ["north", "west", None, "south", "north"],
            "member": [0.0, 1.0, 0.5, 1.0, 0.0],
        }
    )
    found = {
        (name, expected): np.flatnonzero(mask).tolist()
        for name in rows
        for expected, mask in faults(rows, shop_contract[name])
        if mask.any()
    }
    assert found == {
        ("spending", "a value, not nothing"): [4],
        ("spending", "at least 0"): [1],
        ("spending", "at most 10000"): [2, 3],
        ("spending", "a finite number"): [3],
        ("visits", "at most 50"): [3],
        ("visits", "a whole number"): [1],
        ("channel", "a value, not nothing"): [2],
        ("channel", "one of mail, phone, web"): [1],
        ("member", "a whole number"): [2],
    }


def test_a_period_ends_with_what_is_known() -> None:
    everything = Period.parse("", "", NOW)
    assert everything == Period(None, datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC))
    week = Period.parse("7d", "2024-05-20", NOW)
    assert (week.since, week.until) == (datetime(2024, 5, 13, tzinfo=UTC), datetime(2024, 5, 20, tzinfo=UTC))
    assert Period.parse("2024-05-01T02:00+02:00", "2024-07-01", NOW).since == datetime(2024, 5, 1, tzinfo=UTC)
    assert Period.parse("", "2024-07-01", NOW).until == datetime(2024, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        ("yesterday", "", "since 'yesterday': expected a moment such as 2024-05-31"),
        ("", "31.5.2024", "until '31.5.2024': expected a moment such as 2024-05-31"),
        ("2024-05-02", "2024-05-01", "since '2024-05-02': expected a moment before 2024-05-01"),
    ],
)
def test_a_period_that_is_none_is_refused(since: str, until: str, message: str) -> None:
    with pytest.raises(OffersError, match=message):
        Period.parse(since, until, NOW)


def test_spans_of_time() -> None:
    assert [span(text) for text in ("90m", "12h", "1.5d", "2w")] == [
        timedelta(minutes=90),
        timedelta(hours=12),
        timedelta(days=1.5),
        timedelta(weeks=2),
    ]
    for wrong in ("", "d", "0d", "-1d", "1y", "1 d"):
        with pytest.raises(DataError, match="expected a number of minutes, hours, days or weeks"):
            span(wrong)
