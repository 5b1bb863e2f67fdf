"""The online store on a real Redis does what the one on SQLite does, and waits for nobody."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from offers.errors import StorageError
from offers.store.online import SqliteOnlineStore, open_online_store
from tests.support.redis_server import RedisServer

STRANGE = ["a/b", "ü🙂", "x" * 300, "", "007", "7", "offers:online"]
IDS = [*STRANGE, *map(str, range(1000, 4000))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as redis_server:
        yield redis_server


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        with SqliteOnlineStore(tmp_path / "users.db", new=True):
            return str(tmp_path / "users.db")
    server: RedisServer = request.getfixturevalue("server")
    return server.url


def rows(mark: bytes) -> Iterator[tuple[str, bytes]]:
    yield from ((one, mark + b"\0" + one.encode()) for one in IDS)


def test_a_load_replaces_all_and_is_seen_whole_or_not_at_all(place: str) -> None:
    def broken() -> Iterator[tuple[str, bytes]]:
        yield from rows(b"broken")
        assert reader.get(["gone", *STRANGE]) == [b"row", *([None] * len(STRANGE))]
        raise StorageError("away")

    with open_online_store(place) as writer, open_online_store(place) as reader:
        writer.load([("gone", b"row")])
        before = reader.generation()
        with pytest.raises(StorageError, match="away"):
            writer.load(broken())
        assert (reader.generation(), reader.get(["gone", "7"])) == (before, [b"row", None])
        writer.load(rows(b"new"))
        assert reader.generation() != before
        assert reader.get(["gone", *IDS]) == [None, *(value for _, value in rows(b"new"))]
        assert reader.get([]) == []


def test_of_two_loads_at_once_the_later_one_counts(place: str) -> None:
    def slow() -> Iterator[tuple[str, bytes]]:
        # The first row is asked for when the load has begun.
        with open_online_store(place) as other:
            other.load(rows(b"later"))
        yield from rows(b"earlier")

    with open_online_store(place) as store:
        with pytest.raises(StorageError):
            store.load(slow())
        assert store.get(IDS) == [value for _, value in rows(b"later")]


def test_an_update_is_one_step_even_if_somebody_else_is_faster(place: str) -> None:
    calls = list[Sequence[bytes | None]]()

    def change(values: Sequence[bytes | None]) -> list[bytes | None]:
        calls.append(values)
        if place.startswith("redis") and len(calls) == 1:
            with open_online_store(place) as other:
                other.update(["7"], lambda _: [b"between"])
        return [None if value is None else value + b"!" for value in values]

    with open_online_store(place) as store:
        store.load([("7", b"row"), ("8", b"row")])
        store.update(["8", "7", "away"], change)
        first = b"between" if place.startswith("redis") else b"row"
        assert store.get(["7", "8", "away"]) == [first + b"!", b"row!", None]
        assert len(calls) == 1 + place.startswith("redis")
        store.update(["7"], lambda values: [None])
        assert store.get(["7"]) == [first + b"!"]


def test_a_redis_that_hangs_or_is_away_or_empty_is_one_sentence_and_no_wait(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, open_online_store(server.url, patience=0.05) as store:
        with pytest.raises(StorageError, match="there is no load of users; 'offers market load' makes one"):
            store.get(["7"])
        store.load([("7", b"row")])
        server.hang()
        with pytest.raises(StorageError, match="can't be used: Timeout") as fault:
            store.get(["7"])
        assert fault.value.passes
        server.go_on()
        assert store.get(["7"]) == [b"row"]
        server.stop()
        with pytest.raises(StorageError, match="can't be used"):
            store.get(["7"])


def test_a_wrong_place_is_refused_without_its_password() -> None:
    for place, sentence in (
        ("http://host/", "expected the path of an SQLite file, redis://"),
        ("redis://user:secret@host:port/0", "whose host or port can't be read"),
        ("redis://user:secret@[host:6379/0", "whose host or port can't be read"),
    ):
        with pytest.raises(StorageError, match=sentence) as fault:
            open_online_store(place)
        assert "secret" not in str(fault.value)
