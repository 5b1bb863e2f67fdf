"""The online store on SQLite: what was put is got, all of a load or nothing, and every fault is one sentence."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.errors import StorageError
from offers.store.online import SqliteOnlineStore

STRANGE = ["a/b", "ü🙂", "x" * 300, "'; drop table online; --", "", "007", "7"]


def test_what_was_put_is_got_in_the_order_that_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    with SqliteOnlineStore(path, new=True) as store:
        store.put((one, f"row of {one}".encode()) for one in STRANGE)
        store.put((str(number), str(number).encode()) for number in range(1000, 3000))
        store.put([("007", b"newer")])
    with SqliteOnlineStore(path) as store:
        assert store.get([]) == []
        assert store.get(STRANGE) == [b"newer" if one == "007" else f"row of {one}".encode() for one in STRANGE]
        many = [str(number) for number in range(2999, 900, -1)]
        assert store.get(many) == [one.encode() if int(one) >= 1000 else None for one in many]


def test_a_load_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[str, bytes]]:
        yield "1", b"new"
        raise StorageError("away")

    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        store.put([("1", b"old")])
        with pytest.raises(StorageError, match="away"):
            store.put(rows())
        assert store.get(["1"]) == [b"old"]


def test_readers_see_the_last_whole_load_while_another_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    with SqliteOnlineStore(path, new=True) as writer, SqliteOnlineStore(path) as reader:
        writer.put([("1", b"old")])

        def rows() -> Iterator[tuple[str, bytes]]:
            yield "1", b"new"
            assert reader.get(["1"]) == [b"old"]

        writer.put(rows())
        assert reader.get(["1"]) == [b"new"]


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no such store; 'offers market load' makes it"):
        SqliteOnlineStore(tmp_path / "users.db")
    (tmp_path / "text").write_text("no database at all, but long enough to be one" * 50)
    with pytest.raises(StorageError, match="can't be used: file is not a database"):
        SqliteOnlineStore(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE people (id)")
    connection.close()
    with pytest.raises(StorageError, match="no such table: online"):
        SqliteOnlineStore(tmp_path / "other.db")
    with pytest.raises(StorageError, match="unable to open"):
        SqliteOnlineStore(tmp_path / "away" / "users.db", new=True)


def test_a_locked_store_is_said_to_be_a_passing_fault(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    with SqliteOnlineStore(path, new=True, patience=0) as store:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(StorageError, match="locked") as fault:
                store.put([("1", b"row")])
            assert fault.value.passes
        finally:
            other.close()
