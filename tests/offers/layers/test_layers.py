"""Rows through bronze, silver and gold, held against rows that are known."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.data.csv_writer import write_csv
from offers.data.dataset import Dataset
from offers.data.sources import Ingested, ingest
from offers.data.validation import validate
from offers.decisions import training_rows
from offers.errors import DataError, SourceError, StorageError
from offers.layers import gold, loading
from offers.layers.places import BRONZE, GOLD, REJECTS, SILVER, layers_of
from offers.layers.profile import LoadReport, anomalies, profiles
from offers.layers.silver import Change
from offers.settings import Settings
from offers.simulation.world import World
from offers.steps import data as steps
from offers.store.delta import DeltaTables
from offers.store.s3 import connect
from tests.support.seaweedfs import seaweedfs

CARDS = """
name: cards
title: Cards
source: {file: cards.csv, key: [id], format: {separator: ";", decimal: ","}}
target: {column: taken, positive: y, negative: n, matures_after_days: 10}
time: {column: day}
columns:
  - {name: id, role: identifier, type: integer}
  - {name: day, role: time, type: date}
  - {name: age, role: customer, type: integer, min: 18, max: 99}
  - {name: income, role: customer, type: number, min: 0, max: 500000, nullable: true}
  - {name: region, role: customer, type: category, values: [north, south]}
  - {name: member, role: customer, type: boolean}
  - {name: channel, role: offer, type: category, values: [mail, app]}
  - {name: taken, role: target, type: category}
gate: [{metric: auc, at_least: 0.6}]
"""
FIRST = """
1;2026-05-01;30;1000,5;north;yes;mail;y
2;2026-05-02;40;;south;no;app;n
3;2026-05-03;17;3000;north;yes;mail;n
4;2026-05-04;50;4000;south;no;app;
5;2026-05-28;33;9;south;no;app;n
"""
SECOND = """
2;2026-05-02;41;2000;south;no;app;n
4;2026-05-04;50;4000;south;no;app;n
4;2026-05-04;50;4000;south;no;app;y
1;2026-05-01;30;1000,5;north;yes;mail;y
6;2026-04-30;60;10;north;1;mail;n
"""
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def contract(text: str = CARDS) -> Contract:
    return contracts.load(text)


def came(text: str, of: Contract | None = None) -> Ingested:
    """The rows of a text, as a CSV file would bring them."""
    lines = [[cell or None for cell in line.split(";")] for line in text.strip().splitlines()]
    names = [column.name for column in (of or contract()).columns]
    return Ingested(pd.DataFrame(lines, columns=names).astype("string[pyarrow]"), "cards.csv", None)


def load(rows: Ingested, at: DeltaTables, of: Contract | None = None, hours: int = 0) -> LoadReport:
    return loading.load(rows, of or contract(), at, NOW + timedelta(hours=hours), say=lambda _: None)[0]


def rows_of(at: DeltaTables, name: str, version: int | None = None) -> pd.DataFrame:
    frame = at.open(name, version).to_pyarrow_table().to_pandas()
    order = ["_position"] if name == GOLD else ["_loaded_at", "_row"]
    return frame.sort_values(order, ignore_index=True)


@pytest.fixture
def at(tmp_path: Path) -> DeltaTables:
    return layers_of(contract(), str(tmp_path / "layers"), Settings())


@pytest.fixture(params=["directory", "seaweedfs"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DeltaTables]:
    if request.param == "directory":
        yield layers_of(contract(), str(tmp_path / "layers"), Settings())
        return
    with seaweedfs(tmp_path) as s3:
        connect(s3).make_bucket("bank")
        yield layers_of(contract(), "s3://bank/layers", Settings(s3=s3))


def test_rows_go_through_the_layers(either: DeltaTables) -> None:
    first, second = load(came(FIRST), either), load(came(SECOND), either, hours=1)
    assert (first.rows, first.rejected, first.change.new, first.change.waiting, first.gold) == (5, 1, 4, 1, 0)
    change = second.change
    assert (change.new, change.corrected, change.unchanged, change.late, second.repeated) == (1, 2, 1, 1, 1)
    rows = rows_of(either, SILVER).sort_values("id")
    assert rows["id"].tolist() == [1, 2, 4, 5, 6]
    assert rows["age"].tolist() == [30, 41, 50, 33, 60]
    assert rows["income"].tolist() == [1000.5, 2000.0, 4000.0, 9.0, 10.0]
    assert rows["member"].tolist() == [True, False, False, False, True]
    assert rows["taken"].tolist() == ["y", "n", "y", "n", "n"]
    reject = rows_of(either, REJECTS).iloc[0]
    assert (reject["_row"], reject["_reasons"]) == (3, "age: expected at least 18")
    assert '"age":"17"' in reject["_cells"]
    # Row 5 is too young for its outcome to be final; row 6 came late, and goes where its day is.
    learnt = rows_of(either, GOLD)
    assert learnt["age"].tolist() == [60, 30, 41, 50]
    assert "id" not in learnt
    assert rows_of(either, GOLD, 0)["taken"].tolist() == ["y", "n"]
    assert len(rows_of(either, BRONZE)) == 10


def test_loads_one_by_one_leave_what_all_rows_at_once_leave(at: DeltaTables, tmp_path: Path) -> None:
    # The second load brings late, corrected and unchanged rows, and one row twice.
    for hours, text in enumerate((FIRST, SECOND)):
        load(came(text), at, hours=hours)
    whole = layers_of(contract(), str(tmp_path / "whole"), Settings())
    load(came(FIRST + SECOND.lstrip()), whole, hours=1)
    names = ["_digest", *(column.name for column in contract().columns)]
    one, other = (rows_of(tables, SILVER).sort_values("id", ignore_index=True)[names] for tables in (at, whole))
    pd.testing.assert_frame_equal(one, other)
    pd.testing.assert_frame_equal(rows_of(at, GOLD), rows_of(whole, GOLD))


def test_another_reader_reads_them(at: DeltaTables) -> None:
    load(came(FIRST), at)
    silver = at.open(SILVER).to_pyarrow_dataset()
    answer = duckdb.from_arrow(silver).aggregate("count(*), sum(age), max(day)::date::text").fetchall()
    assert answer == [(4, 153, "2026-05-28")]


def test_the_same_rows_again_add_nothing(at: DeltaTables) -> None:
    first = load(came(FIRST), at)
    again, known = loading.load(came(FIRST), contract(), at, NOW + timedelta(days=1), say=lambda _: None)
    assert known
    assert again == first
    assert [at.open(name).version() for name in (BRONZE, GOLD)] == [1, 0]


@pytest.mark.parametrize("ended_before", ["silver.sort", "silver.put", "gold.build", "profiles"])
def test_a_load_that_was_killed_is_completed(
    ended_before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    whole, broken = (layers_of(contract(), str(tmp_path / name), Settings()) for name in ("whole", "broken"))
    for hour, text in enumerate((FIRST, SECOND)):
        expected = load(came(text), whole, hours=hour)
        with monkeypatch.context() as patch:
            patch.setattr(f"offers.layers.loading.{ended_before}", killed)
            with pytest.raises(KeyboardInterrupt):
                load(came(text), broken, hours=hour)
        assert load(came(text), broken, hours=5) == expected
    for name in (BRONZE, SILVER, REJECTS, GOLD):
        pd.testing.assert_frame_equal(rows_of(broken, name), rows_of(whole, name))


def test_loads_at_the_same_time_all_arrive(at: DeltaTables) -> None:
    texts = [
        "\n".join(f"{one};2026-05-0{1 + one % 9};{20 + one};{part};north;no;app;{'yn'[one % 2]}" for one in range(20))
        for part in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda text: load(came(text), at), texts))
    assert sum(one.change.new for one in done) == 20
    assert sum(one.change.corrected for one in done) == 60
    assert rows_of(at, SILVER)["id"].is_unique
    assert len(rows_of(at, GOLD)) == 20


def test_types_of_the_source_make_no_difference(at: DeltaTables, tmp_path: Path) -> None:
    typed = pd.DataFrame(
        {
            "id": [1, 2, 2**53 + 1],
            "day": pd.to_datetime(["2026-05-01", "2026-05-02", "2026-05-03"]),
            "age": [30.0, 40.0, 50.0],
            "income": [1000.5, None, 0.1],
            "region": pd.Categorical(["north", "south", "north"]),
            "member": [True, False, True],
            "channel": ["mail", "app", "app"],
            "taken": ["y", "n", "n"],
        }
    )
    lines = (
        "1;2026-05-01;30;1000,5;north;1;mail;y",
        "2;2026-05-02;40;;south;0;app;n",
        f"{2**53 + 1};2026-05-03;50;0,1;north;yes;app;n",
    )
    other = layers_of(contract(), str(tmp_path / "other"), Settings())
    load(Ingested(typed, "cards.parquet", None), at)
    load(came("\n".join(lines)), other)
    own = ["_load", "_digest"]
    pd.testing.assert_frame_equal(rows_of(at, SILVER).drop(columns=own), rows_of(other, SILVER).drop(columns=own))
    assert rows_of(at, SILVER)["id"].tolist() == [1, 2, 2**53 + 1]


def test_a_version_of_gold_trains_on_the_same_rows_for_ever(
    at: DeltaTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_refuse_too_few", lambda *_: None)
    of, place = contract(), f"layers:{tmp_path / 'layers'}"

    def trained_on(name: str, source: str) -> tuple[str, Dataset]:
        raw, typed, ready = (tmp_path / f"{name}-{step}" for step in ("raw", "typed", "gold"))
        for directory in (raw, typed, ready):
            directory.mkdir()
        said = Settings(home=tmp_path)
        steps.ingest(CARDS, source, raw, said, lambda _: None)
        assert steps.validate(CARDS, raw, typed, tmp_path / "page.html", lambda _: None) == 0
        origin = steps.prepare(CARDS, typed, ready, lambda _: None)
        return origin.model_dump_json(), steps.read_gold(ready, of)

    load(came(FIRST), at)
    before, rows = trained_on("before", f"{place}@0")
    assert '"origin":"layers:layers@0"' in before
    assert rows.labels.tolist() == [1, 0]
    load(came(SECOND), at, hours=1)
    assert trained_on("after", f"{place}@0")[0] == before
    newest, more = trained_on("newest", place)
    assert '"origin":"layers:layers@1"' in newest
    assert more.labels.tolist() == [0, 1, 0, 1]


def test_gold_of_a_file_in_two_loads_is_that_of_the_file(tmp_path: Path) -> None:
    of = contracts.load("bank-marketing")
    sample = World(of, 3).sample(600).frame
    sample.loc[1] = sample.loc[0]
    paths = [tmp_path / name for name in ("whole.csv", "first.csv", "second.csv")]
    for path, part in zip(paths, (sample, sample[:250], sample[250:]), strict=True):
        write_csv(part, of, path)
    at = layers_of(of, str(tmp_path / "layers"), Settings())
    whole, *parts = (ingest(of, Settings(home=tmp_path), str(path)) for path in paths)
    for hour, part in enumerate(parts):
        load(part, at, of, hours=hour)
    expected = Dataset.prepare(validate(whole.frame, of).frame, of)
    rows = training_rows.ingest(of, Settings(home=tmp_path), f"layers:{tmp_path / 'layers'}").frame
    got = Dataset.prepare(validate(rows, of).frame, of)
    assert got.fingerprint(of) == expected.fingerprint(of)
    assert got.periods.tolist() == expected.periods.tolist()


def test_a_new_column_is_added_and_another_type_refused(at: DeltaTables) -> None:
    load(came(FIRST), at)
    visits = "  - {name: visits, role: customer, type: integer, nullable: true}\n"
    of = contract(CARDS.replace("  - {name: channel", f"{visits}  - {{name: channel"))
    load(came("7;2026-05-03;44;1;north;yes;3;app;y", of), at, of, hours=1)
    rows = rows_of(at, SILVER)
    assert rows["visits"].tolist()[-1] == 3
    assert rows["visits"].isna().sum() == 4
    assert gold.read(of, at, "layers:").frame["visits"].notna().tolist() == [False, False, True]
    other = contract(CARDS.replace("age, role: customer, type: integer", "age, role: customer, type: number"))
    with pytest.raises(StorageError, match="holds 'age' as int64, and the contract now says double"):
        load(came("8;2026-05-03;44,5;1;north;yes;app;y"), at, other)


def test_rows_since_a_moment(at: DeltaTables) -> None:
    rows, left_out = loading.since(came(FIRST), contract(), at, "2026-05-03")
    assert (rows.frame["id"].tolist(), left_out) == (["3", "4", "5"], 2)
    assert loading.since(came(FIRST), contract(), at, "last")[1] == 0
    load(came(SECOND), at)
    rows, left_out = loading.since(came(FIRST), contract(), at, "last")
    assert (rows.frame["id"].tolist(), left_out) == (["4", "5"], 3)
    with pytest.raises(DataError, match="--since 'yesterday': expected a date such as 2024-05-31"):
        loading.since(came(FIRST), contract(), at, "yesterday")
    with pytest.raises(DataError, match="expected rows from 2027-01-01 00:00:00 on, found none"):
        loading.since(came(FIRST), contract(), at, "2027-01-01")
    keyless = contract(CARDS.replace("key: [id], ", ""))
    with pytest.raises(DataError, match=r"rows need a key: name its columns in 'source\.key'"):
        loading.since(came(FIRST), keyless, at, "last")


def test_what_is_not_there_is_told(at: DeltaTables) -> None:
    with pytest.raises(SourceError, match="expected gold of contract cards, found none; load"):
        gold.read(contract(), at, "layers:here")
    load(came(FIRST), at)
    with pytest.raises(SourceError, match="expected a version of gold from 0 to 0, got 7"):
        gold.read(contract(), at, "layers:here", 7)
    with pytest.raises(SourceError, match="expected a version of gold behind the @, a whole number"):
        training_rows.gold_version("layers:here@new")
    alone = layers_of(contract(), f"{at.root}/alone", Settings())
    assert load(came("1;2026-05-01;30;1;north;yes;mail;y"), alone).note.endswith("'n' never occurs")


def reported(
    generator: np.random.Generator,
    day: int,
    rows: int = 800,
    missing: float = 0.1,
    north: float = 0.5,
    age: float = 40.0,
) -> LoadReport:
    """The report of a load of random rows."""
    income = np.where(generator.random(rows) < missing, np.nan, generator.normal(3000, 500, rows))
    columns = {
        "id": generator.integers(0, 10**9, rows),
        "age": generator.normal(age, 8, rows).round().astype(int),
        "income": pa.array(income, from_pandas=True),
        "region": np.where(generator.random(rows) < north, "north", "south"),
        "member": generator.random(rows) < 0.3,
        "channel": generator.choice(["mail", "app"], rows),
        "taken": generator.choice(["y", "n"], rows),
    }
    return LoadReport(
        load=str(day),
        at=NOW + timedelta(days=day),
        source="cards.csv",
        fingerprint="",
        rows=rows,
        rejected=8,
        repeated=0,
        left_out=0,
        change=Change(new=rows, corrected=0, unchanged=0, late=0, waiting=0),
        first=None,
        last=NOW + timedelta(days=day, hours=-5),
        columns=profiles(pa.table(columns), contract()),
        gold=0,
        gold_rows=rows,
    )


def test_what_is_unlike_the_loads_before_is_named() -> None:
    generator = np.random.default_rng(5)
    usual = [reported(generator, day) for day in range(200)]
    noisy = [place for place in range(10, 200) if list(anomalies(usual[place], usual[:place]))]
    assert len(noisy) <= 2
    late, refused = {"at": NOW + timedelta(days=3)}, {"rejected": 120}
    odd = {
        "10000 rows, where 800 are usual": reported(generator, 201, rows=10000),
        "column 'income': 2": reported(generator, 201, missing=0.27),
        "column 'region': 'north' in 7": reported(generator, 201, north=0.75),
        "column 'age': mean 4": reported(generator, 201, age=47),
        "the newest row is 3 days old, where 5 hours is usual": usual[0].model_copy(update=late),
        "of the rows break the contract, where 1.0% usually do": usual[0].model_copy(update=refused),
    }
    for words, one in odd.items():
        assert any(words in said for said in anomalies(one, usual[-20:])), words
