"""Writers that create the same objects at the same time."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from offers.store.store import Store


def assert_one_creates(store: Store, writers: int, keys: int) -> None:
    """Let all writers create each key at once: one alone is told that it did, and the object holds what it wrote."""
    barrier = Barrier(writers)

    def create(writer: int) -> list[bool]:
        created = []
        for key in range(keys):
            barrier.wait(60)
            created.append(store.create(f"race/{key:03}", f"writer {writer}".encode()))
        return created

    with ThreadPoolExecutor(writers) as pool:
        by_writer = list(pool.map(create, range(writers)))
    for key in range(keys):
        (winner,) = [writer for writer in range(writers) if by_writer[writer][key]]
        assert store.read_bytes(f"race/{key:03}") == f"writer {winner}".encode()
    assert store.keys() == [f"race/{key:03}" for key in range(keys)]
