import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from offers.decisions.segment import adopt, framed, lines, sealed
from offers.decisions.spool import Spool, SpoolFull, SpoolLimits
from offers.errors import StorageError
from tests.support.sidecar import until


def content(directory: Path) -> list[bytes]:
    """The payloads of all sealed segments, each of which has to be whole."""
    found = [line for segment in sealed(directory) for line in lines(segment.path.read_bytes())]
    assert all(isinstance(line, bytes) for line in found)
    return [line for line in found if isinstance(line, bytes)]


def test_lines_of_many_threads_stand_whole_and_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "pod", SpoolLimits(seal_bytes=2_000))
    wanted = {b"%d-%d" % (writer, k) + b"x" * k for writer in range(4) for k in range(100)}

    def write(writer: int) -> None:
        for payload in wanted:
            if payload.startswith(b"%d-" % writer):
                spool.append(payload)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.seal()
    found = content(tmp_path)
    assert len(found) == len(wanted)
    assert set(found) == wanted
    assert len(sealed(tmp_path)) > 10


def test_a_live_writers_segment_is_not_taken(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "one", SpoolLimits())
    spool.append(b"mine")
    other = Spool(tmp_path, "two", SpoolLimits())
    assert adopt(tmp_path) == 0
    assert sealed(tmp_path) == []
    spool.append(b"too")
    spool.seal()
    other.seal()
    assert content(tmp_path) == [b"mine", b"too"]


def test_old_segments_are_sealed_while_nobody_writes(tmp_path: Path) -> None:
    async def run() -> None:
        async with Spool(tmp_path, "pod", SpoolLimits(seal_seconds=0.1)) as spool:
            spool.append(b"alone")
            await asyncio.to_thread(until, lambda: sealed(tmp_path), bool)

    asyncio.run(run())
    assert content(tmp_path) == [b"alone"]


def test_leaving_the_spool_seals_what_is_there(tmp_path: Path) -> None:
    async def run() -> None:
        async with Spool(tmp_path, "pod", SpoolLimits(seal_seconds=600)) as spool:
            spool.append(b"last")

    asyncio.run(run())
    assert content(tmp_path) == [b"last"]


def test_beyond_its_limit_nothing_is_written_until_the_shipper_has_been(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "pod", SpoolLimits(most_bytes=2 * len(framed(b"12345"))))
    spool.append(b"12345")
    spool.append(b"12345")
    with pytest.raises(SpoolFull, match="48 bytes wait for the shipper, and 48 may"):
        spool.append(b"")
    spool.seal()
    assert content(tmp_path) == [b"12345"] * 2
    for segment in sealed(tmp_path):
        segment.path.unlink()
    assert Spool(tmp_path, "next", SpoolLimits()).waiting == 0

    async def run() -> None:
        async with spool:
            await asyncio.to_thread(until, lambda: spool.waiting, lambda waiting: waiting == 0)
            spool.append(b"again")

    asyncio.run(run())
    assert content(tmp_path) == [b"again"]


def test_what_others_left_counts_toward_the_limit(tmp_path: Path) -> None:
    first = Spool(tmp_path, "one", SpoolLimits())
    first.append(b"12345")
    first.seal()
    with pytest.raises(SpoolFull):
        Spool(tmp_path, "two", SpoolLimits(most_bytes=40)).append(b"12345")


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, SpoolFull), (errno.EIO, StorageError)])
def test_a_line_that_the_disk_takes_in_part_is_taken_back(
    number: int, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, "pod", SpoolLimits())
    spool.append(b"before")
    write = os.write

    def refused(descriptor: int, data: object) -> int:
        raise OSError(number, os.strerror(number))

    def partial(descriptor: int, parts: tuple[bytes, ...]) -> int:
        return write(descriptor, b"".join(parts)[:-10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refused)
        for writev in (partial, refused):
            patch.setattr(os, "writev", writev)
            with pytest.raises(kind):
                spool.append(b"a line that does not fit")
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        patch.setattr(os, "writev", partial)
        spool.append(b"in many parts")
    spool.append(b"after")
    spool.seal()
    assert content(tmp_path) == [b"before", b"in many parts", b"after"]


def test_with_power_each_waits_until_the_disk_has_its_line_and_many_share_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offers.decisions import spool as module

    syncs = list[int]()
    monkeypatch.setattr(module, "_datasync", lambda descriptor: syncs.append(os.fstat(descriptor).st_size))

    async def run() -> None:
        spool = Spool(tmp_path, "pod", SpoolLimits(durability="power"))

        async def one(payload: bytes) -> None:
            spool.append(payload)
            here = os.fstat(spool._descriptor).st_size
            await spool.durable()
            assert max(syncs) >= here

        await asyncio.gather(*(one(b"%d" % k) for k in range(100)))
        assert 1 <= len(syncs) < 10
        await spool.durable()
        assert len(syncs) < 10

    asyncio.run(run())


def test_a_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    with pytest.raises(StorageError, match="spool"):
        Spool(tmp_path / "spool", "pod", SpoolLimits())
