"""The online store on SQLite: what was put is got, all of a load or nothing, and every fault is one sentence."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from offers.errors import StorageError
from offers.store.online import SqliteOnlineStore

STRANGE = ["a/b", "ü🙂", "x" * 300, "'; drop table online; --", "", "007", "7"]


def test_what_was_loaded_is_got_in_the_order_that_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    many = [*STRANGE, *map(str, range(1000, 3000))]
    with SqliteOnlineStore(path, new=True) as store:
        store.load((one, f"row of {one}".encode()) for one in many)
        store.update(["007", "away", "7"], lambda values: [b"newer", *values[1:]])
    with SqliteOnlineStore(path) as store:
        assert store.get([]) == []
        assert store.get(STRANGE) == [b"newer" if one == "007" else f"row of {one}".encode() for one in STRANGE]
        asked = [str(number) for number in range(2999, 900, -1)]
        assert store.get(asked) == [f"row of {one}".encode() if int(one) >= 1000 else None for one in asked]
        assert store.get(["away"]) == [None]


def test_a_load_replaces_all_that_was_there(tmp_path: Path) -> None:
    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        for number in range(3):
            store.load([(str(number), b"row"), ("all", str(number).encode())])
            assert store.get(["0", "1", "2", "all"]) == [
                *(b"row" if n == number else None for n in range(3)),
                str(number).encode(),
            ]


def test_a_load_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[str, bytes]]:
        yield from ((str(number), b"new") for number in range(50_000))
        raise StorageError("away")

    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        store.load([("1", b"old")])
        with pytest.raises(StorageError, match="away"):
            store.load(rows())
        assert store.get(["1"]) == [b"old"]
        store.load([("1", b"newest")])
        assert store.get(["1", "2"]) == [b"newest", None]


def test_readers_see_the_last_whole_load_and_writers_change_it_while_another_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    with SqliteOnlineStore(path, new=True) as writer, SqliteOnlineStore(path) as reader:
        writer.load([("1", b"old")])

        def rows() -> Iterator[tuple[str, bytes]]:
            yield from ((str(number), b"new") for number in range(25_000))
            assert reader.get(["1"]) == [b"old"]
            reader.update(["1"], lambda values: [b"changed"])
            assert reader.get(["1", "2"]) == [b"changed", None]

        writer.load(rows())
        assert reader.get(["1", "2"]) == [b"new", b"new"]


def test_an_update_that_fails_changes_nothing(tmp_path: Path) -> None:
    def change(values: Sequence[bytes | None]) -> list[bytes | None]:
        raise StorageError("no row of ours")

    with SqliteOnlineStore(tmp_path / "users.db", new=True) as store:
        store.load([("1", b"old")])
        with pytest.raises(StorageError, match="no row of ours"):
            store.update(["1"], change)
        store.update(["1"], lambda values: [None])
        assert store.get(["1"]) == [b"old"]


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no such store; 'offers market load' makes it"):
        SqliteOnlineStore(tmp_path / "users.db")
    (tmp_path / "text").write_text("no database at all, but long enough to be one" * 50)
    with pytest.raises(StorageError, match="can't be used: file is not a database"):
        SqliteOnlineStore(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE people (id)")
    connection.close()
    with pytest.raises(StorageError, match="expected an online store; 'offers market load' makes one"):
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
                store.update(["1"], lambda values: [None])
            assert fault.value.passes
        finally:
            other.close()
