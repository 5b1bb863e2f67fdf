"""The online store: packed rows by id, for services that read a few of many."""

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol, Self

from offers.errors import StorageError
from offers.files import os_errors

_CHUNK = 500
"""Ids in one question; SQLite takes no more than 999 in every build."""

_BLOCK = 20_000
"""Rows that are loaded in one transaction."""

_APPLICATION = 0x4F464F53
"""SQLite's mark of a file's application: ours."""

_COLUMNS = "(id TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"

PATIENCE = 30.0
"""Seconds that a writer waits for another."""


Change = Callable[[Sequence[bytes | None]], Sequence[bytes | None]]
"""Makes new values of those that are there; None leaves one as it is. It may be asked again, for newer values."""


class OnlineStore(Protocol):
    """Bytes by id. Every method may raise StorageError: the store can't be reached, is damaged, or is not ours."""

    def close(self) -> None:
        """Let go of connections."""
        ...

    def get(self, ids: Sequence[str]) -> list[bytes | None]:
        """Get the values of ids in their order; None where there is none."""
        ...

    def load(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Replace everything; readers see what was there until all rows are. No id comes twice.

        Of two loads at once the one that began first fails.
        """
        ...

    def generation(self) -> int:
        """Get a number that every load changes."""
        ...

    def update(self, ids: Sequence[str], change: Change) -> None:
        """Change the values of ids, which are all different, in one step: all or none, and nobody else's in between."""
        ...


class SqliteOnlineStore:
    """An online store in an SQLite file. An object belongs to one thread; processes may read while one writes.

    Parameters
    ----------
    path : the file
    new : whether the file is made if it does not exist
    patience : seconds that a query waits while the file is locked

    Raises
    ------
    StorageError
        there is no such file, it is not one of our stores, or it can't be opened

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory, SqliteOnlineStore(Path(directory) / "users.db", new=True) as store:
    ...     store.load([("42", b"row")])
    ...     store.get(["7", "42"])
    [None, b'row']
    """

    def __init__(self, path: Path, new: bool = False, patience: float = PATIENCE) -> None:
        self._path = path
        if not new and not path.is_file():
            raise StorageError(f"{path}: there is no such store; 'offers market load' makes it")
        with self._errors(), os_errors(path):
            self._connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
            try:
                self._open(new)
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def get(self, ids: Sequence[str]) -> list[bytes | None]:
        with self._transaction("BEGIN"):
            return self._values(ids)

    def load(self, rows: Iterable[tuple[str, bytes]]) -> None:
        number, remaining = 1 + secrets.randbelow(2**31 - 1), iter(rows)
        with self._transaction("BEGIN IMMEDIATE"):
            # What a load has left that was killed, or that goes on and is to fail.
            self._drop_others()
            self._connection.execute(f"CREATE TABLE online_{number} {_COLUMNS}")
        with self._waiting_room():
            # Rows wait in a temporary file, while live updates go on. SQLite copies a whole table in order, and leaves
            # no page of the copy half empty: rows that are inserted one by one take a tenth more.
            while block := list(islice(remaining, _BLOCK)):
                with self._transaction("BEGIN"):
                    self._connection.executemany("INSERT INTO temp.waiting VALUES (?, ?)", block)
            with self._transaction("BEGIN IMMEDIATE"):
                self._connection.execute(f"INSERT INTO online_{number} SELECT * FROM temp.waiting")
                self._connection.execute(f"PRAGMA user_version = {number}")
                self._drop_others()

    def generation(self) -> int:
        with self._errors():
            return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def update(self, ids: Sequence[str], change: Change) -> None:
        with self._transaction("BEGIN IMMEDIATE"):
            values = zip(change(self._values(ids)), ids, strict=True)
            rows = [(value, one) for value, one in values if value is not None]
            self._connection.executemany(f"UPDATE online_{self.generation()} SET value = ? WHERE id = ?", rows)

    @contextmanager
    def _waiting_room(self) -> Iterator[None]:
        with self._errors():
            self._connection.execute(f"CREATE TEMP TABLE waiting {_COLUMNS}")
        try:
            yield
        finally:
            with self._errors():
                self._connection.execute("DROP TABLE temp.waiting")

    def _open(self, new: bool) -> None:
        execute = self._connection.execute
        if new:
            execute("PRAGMA journal_mode = WAL")
            execute("BEGIN IMMEDIATE")
            if not execute("SELECT 1 FROM sqlite_master").fetchone():
                execute(f"PRAGMA application_id = {_APPLICATION}")
                execute(f"CREATE TABLE online_0 {_COLUMNS}")
            execute("COMMIT")
        execute("PRAGMA synchronous = NORMAL")
        if execute("PRAGMA application_id").fetchone() != (_APPLICATION,):
            raise StorageError(f"{self._path}: expected an online store; 'offers market load' makes one")

    def _drop_others(self) -> None:
        """Drop the tables of all loads but the one in force."""
        names = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            if name != f"online_{self.generation()}":
                self._connection.execute(f"DROP TABLE {name}")

    def _values(self, ids: Sequence[str]) -> list[bytes | None]:
        values, table = dict[str, bytes](), f"online_{self.generation()}"
        for first in range(0, len(ids), _CHUNK):
            chunk = ids[first : first + _CHUNK]
            places = ",".join("?" * len(chunk))
            values |= self._connection.execute(f"SELECT id, value FROM {table} WHERE id IN ({places})", chunk)
        return [values.get(one) for one in ids]

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._errors():
            self._connection.execute(begin)
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            passes = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
            raise StorageError(f"{self._path}: the online store can't be used: {error}", passes=passes) from None


def open_online_store(where: str, new: bool = False, patience: float = PATIENCE) -> "OnlineStore":
    """Open a store by its place.

    Parameters
    ----------
    where : redis://HOST:PORT/NUMBER, rediss://… for TLS, or the path of an SQLite file
    new : whether an SQLite file is made if it does not exist
    patience : seconds that each call may take

    Raises
    ------
    StorageError
        there is no such store, or it can't be opened
    """
    if where.startswith(("redis://", "rediss://")):
        from offers.store.online_redis import RedisOnlineStore

        return RedisOnlineStore(where, patience)
    if "://" in where:
        raise StorageError(f"{where}: expected the path of an SQLite file, redis://HOST:PORT/0 or rediss://HOST:PORT/0")
    return SqliteOnlineStore(Path(where), new, patience)
