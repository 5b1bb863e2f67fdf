"""Zips, in zips; broken, locked, and too large ones."""

from pathlib import Path

import pytest

from offers.data import archive
from offers.data.sources import fetch, ingest
from offers.errors import SourceError
from offers.settings import Settings
from tests.support.http_double import FileServer
from tests.support.small import LARGE, SMALL, contract, files, sha256, write, zipped

MEMBER = "inner.zip/folder/small.csv"
NESTED = zipped(**{"other.zip": zipped(x=b""), "inner.zip": zipped(**{"readme": b"-", "folder/small.csv": SMALL})})


def test_a_zip_in_a_zip(server: FileServer, settings: Settings) -> None:
    server.content = NESTED
    own = contract(uri=server.url, member=MEMBER, sha256=sha256(SMALL))
    got = ingest(own, settings)
    assert (len(got.frame), got.sha256) == (2, sha256(SMALL))
    assert fetch(own, settings).name == "small.csv"
    assert server.asked == ["all"]
    assert set(files(settings.home)) <= {"small.csv", "version", "download.version"}


def test_an_altered_file_in_a_zip(server: FileServer, settings: Settings) -> None:
    server.content = NESTED
    own = contract(uri=server.url, member=MEMBER, sha256=sha256(LARGE))
    with pytest.raises(SourceError, match=f"expected SHA-256 {sha256(LARGE)}, got {sha256(SMALL)}"):
        ingest(own, settings)
    assert set(files(settings.home)) <= {"download.version"}


def test_a_zip_of_ones_own(tmp_path: Path, settings: Settings) -> None:
    path = write(tmp_path, NESTED, "rows.zip")
    own = contract(member=MEMBER, sha256=sha256(LARGE))
    assert ingest(own, settings, path).sha256 == sha256(SMALL)
    assert Path(path).read_bytes() == NESTED


def test_a_path_in_a_zip_is_never_a_path_of_ours(settings: Settings, tmp_path: Path) -> None:
    path = write(tmp_path, zipped(**{"../../../evil.csv": SMALL}), "rows.zip")
    got = fetch(contract(member="../../../evil.csv"), settings, path)
    assert got.is_relative_to(settings.home)
    assert got.name == "small.csv"
    assert not list(tmp_path.rglob("evil.csv"))


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            "inner.zip/small.csv",
            r"rows\.zip/inner\.zip: expected small\.csv in it; it holds readme, folder/small\.csv$",
        ),
        ("small.csv", r"expected small\.csv in it; it holds other\.zip, inner\.zip$"),
        ("inner.zip/readme/small.csv", r"expected a whole zip file, but it is broken or no zip"),
        (None, r"it is a zip, so source\.member of the contract must name a file in it; it holds other\.zip, inner"),
    ],
)
def test_a_zip_without_the_member(tmp_path: Path, settings: Settings, member: str | None, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        ingest(contract(member=member), settings, write(tmp_path, NESTED, "rows.zip"))


def test_a_broken_zip(tmp_path: Path, settings: Settings) -> None:
    whole = zipped(**{"small.csv": LARGE})
    spoilt = bytearray(whole)
    spoilt[200:400] = b"?" * 200
    astray = bytearray(whole)
    start_of_directory = slice(-6, -2)
    astray[start_of_directory] = (int.from_bytes(astray[start_of_directory], "little") + 64).to_bytes(4, "little")
    for content in (whole[:-100], bytes(spoilt), bytes(astray)):
        with pytest.raises(SourceError, match=r"rows\.zip: expected a whole zip file, but it is broken or no zip"):
            ingest(contract(member="small.csv"), settings, write(tmp_path, content, "rows.zip"))
    assert files(settings.home) == {}


def test_a_page_in_place_of_the_zip(server: FileServer, settings: Settings) -> None:
    server.content = b"<!doctype html>"
    own = contract(uri=server.url, member=MEMBER, sha256=sha256(SMALL))
    with pytest.raises(SourceError, match=r"expected a whole zip file, but it is broken or no zip .*OFFERS_DATA_DIR"):
        ingest(own, settings)


def test_a_zip_with_password(tmp_path: Path, settings: Settings) -> None:
    locked = zipped(**{"small.csv": SMALL}).replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\1")
    locked = locked.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1")
    with pytest.raises(SourceError, match="expected a zip file without password"):
        ingest(contract(member="small.csv"), settings, write(tmp_path, locked, "rows.zip"))


def test_a_zip_that_would_fill_the_disk(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST_MEMBER", len(LARGE) - 1)
    path = write(tmp_path, zipped(**{"small.csv": LARGE}), "rows.zip")
    with pytest.raises(SourceError, match=f"small.csv in it unpacks to {len(LARGE)} bytes; expected at most"):
        ingest(contract(member="small.csv"), settings, path)
    assert files(settings.home) == {}
