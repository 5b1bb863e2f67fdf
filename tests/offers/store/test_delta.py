import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from offers.errors import SourceError, StorageError
from offers.settings import S3Settings, Settings
from offers.store.delta import DeltaTables
from offers.store.s3 import connect
from tests.support.seaweedfs import seaweedfs

ROWS = pa.table({"day": ["mon", "tue"], "number": [1, 2]})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as s3:
        connect(s3).make_bucket("tables")
        yield s3


@pytest.fixture(params=["directory", "seaweedfs"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> DeltaTables:
    if request.param == "directory":
        return DeltaTables.at(str(tmp_path), Settings())
    settings = Settings(s3=request.getfixturevalue("server"))
    return DeltaTables.at(f"s3://tables/{request.node.name.partition('[')[0]}", settings)


def test_rows_are_appended_once_for_each_number(tables: DeltaTables) -> None:
    assert not tables.holds("days")
    answers = [tables.append("days", ROWS, writer, number, ["day"]) for writer in ("a", "b") for number in (0, 0, 1, 0)]
    assert answers == [True, False, True, False] * 2
    table = tables.open("days")
    assert table.to_pyarrow_table().num_rows == 4 * len(ROWS)
    assert table.metadata().partition_columns == ["day"]
    assert tables.holds("days")


def test_four_writers_at_once_lose_and_repeat_nothing(tables: DeltaTables) -> None:
    refusals = list[StorageError]()

    def write(writer: int) -> None:
        try:
            for number in range(5):
                rows = pa.table({"writer": [writer], "number": [number]})
                # As after a crash: nobody knows whether the first was done.
                tables.append("race", rows, f"writer-{writer}", number)
                tables.append("race", rows, f"writer-{writer}", number)
        except StorageError as error:
            refusals.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refusals
    found = tables.open("race").to_pyarrow_table().to_pylist()
    assert sorted((row["writer"], row["number"]) for row in found) == [(w, n) for w in range(4) for n in range(5)]


def test_a_table_that_others_append_to_join_remove_or_make_anew_takes_the_next_rows(tmp_path: Path) -> None:
    tables, other = (DeltaTables.at(str(tmp_path), Settings()) for _ in range(2))
    for number in range(3):
        assert tables.append("days", ROWS, "a", number)
        assert other.append("days", ROWS, "b", number)
    tables.open("days").optimize.compact()
    assert tables.append("days", ROWS, "a", 3)
    assert tables.open("days").to_pyarrow_table().num_rows == 7 * len(ROWS)
    shutil.rmtree(tmp_path / "days")
    assert tables.append("days", ROWS, "a", 4)
    shutil.rmtree(tmp_path / "days")
    assert other.append("days", ROWS, "b", 3)
    assert tables.append("days", ROWS, "a", 5)
    table = tables.open("days")
    assert (table.version(), table.to_pyarrow_table().num_rows) == (2, 2 * len(ROWS))


def test_foreign_rows_and_absent_tables_are_told_in_a_sentence(tables: DeltaTables) -> None:
    with pytest.raises(SourceError, match="absent: expected a Delta table, found none"):
        tables.open("absent")
    tables.append("days", ROWS, "a", 0)
    with pytest.raises(StorageError, match="days: the table can't be read or written"):
        tables.append("days", pa.table({"other": [1]}), "a", 1)
    assert tables.open("days").to_pyarrow_table().num_rows == len(ROWS)


def test_a_store_that_is_away_is_told_in_a_sentence() -> None:
    away = S3Settings(endpoint="127.0.0.1:9", access_key="key", secure=False)
    with pytest.raises(StorageError, match="s3://bank/tables/days: the table can't be read or written"):
        DeltaTables.at("s3://bank/tables", Settings(s3=away)).append("days", ROWS, "a", 0)


@pytest.mark.parametrize("uri", ["", "ftp://host/tables"])
def test_another_kind_of_place_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="expected a directory, file:///path or s3://bucket/prefix"):
        DeltaTables.at(uri, Settings())
