"""Downloads that are cut, killed or changed in between go on, or start over."""

import multiprocessing
import os
import re

import pytest

from offers.data.sources import fetch
from offers.errors import SourceError
from offers.settings import Settings
from tests.support.http_double import FileServer
from tests.support.small import LARGE, contract, sha256


def test_progress_counts_bytes(server: FileServer, settings: Settings) -> None:
    calls: list[tuple[int, int | None]] = []
    fetch(contract(), settings, server.url, lambda done, total: calls.append((done, total)))
    done = [done for done, _ in calls]
    assert done == sorted(done)
    assert calls[-1] == (len(LARGE), len(LARGE))


def test_a_download_of_unknown_size(server: FileServer, settings: Settings) -> None:
    server.sized = False
    calls: list[tuple[int, int | None]] = []
    fetch(contract(), settings, server.url, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(LARGE), None)


def test_a_cut_download_goes_on_where_it_stopped(server: FileServer, settings: Settings) -> None:
    own = contract(uri=server.url, sha256=sha256(LARGE), hint="ask the bank")
    server.cut = 100_000
    with pytest.raises(
        SourceError, match=r"the download was cut short \(.*\); run again to go on .*; ask the bank; set OFF"
    ):
        fetch(own, settings)
    server.cut = None
    calls: list[tuple[int, int | None]] = []
    path = fetch(own, settings, progress=lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == LARGE
    assert server.asked == ["all", "bytes=100000-"]
    assert server.seen[1]["If-Range"] == '"one"'
    assert calls[0][0] > 100_000
    assert calls[-1] == (len(LARGE), len(LARGE))


def test_without_version_or_checksum_a_cut_download_starts_over(server: FileServer, settings: Settings) -> None:
    server.etag, server.cut = "", 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut = None
    assert fetch(contract(), settings, server.url).read_bytes() == LARGE
    assert server.asked == ["all", "all"]


def test_a_file_that_changed_in_between_starts_over(server: FileServer, settings: Settings) -> None:
    server.cut = 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut, server.etag, server.content = None, '"two"', LARGE.replace(b"clerk", b"baker")
    assert fetch(contract(), settings, server.url).read_bytes() == server.content
    assert server.asked == ["all", "bytes=100000-"]


def test_a_server_that_sends_a_range_in_pieces(server: FileServer, settings: Settings) -> None:
    server.cut = 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut, server.at_most = None, 200_000
    with pytest.raises(SourceError, match=f"cut short at 300000 of {len(LARGE)} bytes; run again"):
        fetch(contract(), settings, server.url)
    server.at_most = None
    assert fetch(contract(), settings, server.url).read_bytes() == LARGE
    assert server.asked == ["all", "bytes=100000-", "bytes=300000-"]


def test_a_cut_download_leaves_the_earlier_file(server: FileServer, settings: Settings) -> None:
    path = fetch(contract(), settings, server.url)
    server.etag, server.cut, server.content = '"two"', 100_000, LARGE.replace(b"clerk", b"baker")
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    assert path.read_bytes() == LARGE
    server.cut = None
    with path.open("rb") as opened:
        assert fetch(contract(), settings, server.url).read_bytes() == server.content
        assert opened.read() == LARGE


def test_a_killed_process_leaves_the_earlier_file(server: FileServer, settings: Settings) -> None:
    path = fetch(contract(), settings, server.url)
    server.etag, server.stall, server.content = '"two"', 400_000, LARGE.replace(b"clerk", b"baker")
    reader, writer = os.pipe()

    def progress(done: int, total: int | None) -> None:
        if done == 400_000:
            os.write(writer, b"!")

    process = multiprocessing.get_context("fork").Process(
        target=fetch, args=(contract(), settings, server.url, progress)
    )
    process.start()
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert told.read(1) == b"!"
    process.kill()
    process.join()
    assert path.read_bytes() == LARGE
    server.stall = None
    assert fetch(contract(), settings, server.url).read_bytes() == server.content
    resumed = re.fullmatch(r"bytes=(\d+)-", server.asked[-1])
    assert resumed
    assert 300_000 < int(resumed[1]) <= 400_000
