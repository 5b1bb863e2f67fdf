"""The online store: packed rows by id, for services that read a few of many."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

from offers.errors import StorageError
from offers.files import os_errors

_CHUNK = 500
"""Ids in one question; SQLite takes no more than 999 in every build."""

_PATIENCE = 30.0
"""Seconds that a writer waits for another."""


class OnlineStore(Protocol):
    """Bytes by id. Every method may raise StorageError: the store can't be reached, is damaged, or is not ours."""

    def get(self, ids: Sequence[str]) -> list[bytes | None]:
        """The values of ids in their order; None where there is none."""
        ...

    def put(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Store all values or none; a value replaces the one before."""
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
    ...     store.put([("42", b"row")])
    ...     store.get(["7", "42"])
    [None, b'row']
    """

    def __init__(self, path: Path, new: bool = False, patience: float = _PATIENCE) -> None:
        self._path = path
        if not new and not path.is_file():
            raise StorageError(f"{path}: there is no such store; 'offers market load' makes it")
        with self._errors(), os_errors(path):
            self._connection = sqlite3.connect(path, timeout=patience)
            try:
                if new:
                    self._connection.execute("PRAGMA journal_mode = WAL")
                    self._connection.execute(
                        "CREATE TABLE IF NOT EXISTS online (id TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
                    )
                self._connection.execute("SELECT value FROM online WHERE id = ''")
            except sqlite3.Error:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def get(self, ids: Sequence[str]) -> list[bytes | None]:
        values: dict[str, bytes] = {}
        with self._errors():
            for first in range(0, len(ids), _CHUNK):
                chunk = ids[first : first + _CHUNK]
                places = ",".join("?" * len(chunk))
                values |= self._connection.execute(f"SELECT id, value FROM online WHERE id IN ({places})", chunk)
        return [values.get(one) for one in ids]

    def put(self, rows: Iterable[tuple[str, bytes]]) -> None:
        with self._errors(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO online VALUES (?, ?)", rows)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            locked = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
            raise StorageError(f"{self._path}: the online store can't be used: {error}", passes=locked) from None
