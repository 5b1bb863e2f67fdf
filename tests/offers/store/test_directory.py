"""A directory as store: what other processes, full disks and permissions do to it."""

import errno
import os
from pathlib import Path

import pytest

from offers.errors import StorageError
from offers.store import directory
from offers.store.directory import DirectoryStore
from tests.support.trees import bundle, tree


def test_a_reader_keeps_the_file_that_it_opened(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write_bytes("events/1", b"old")
    with (tmp_path / "events" / "1").open("rb") as opened:
        store.write_bytes("events/1", b"new")
        assert opened.read() == b"old"


def test_the_same_directory_again_changes_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    before = (tmp_path / "store" / "b" / "model.ubj").stat()
    store.put_directory(tmp_path / "bundle", "b")
    assert (tmp_path / "store" / "b" / "model.ubj").stat().st_ino == before.st_ino
    assert os.listdir(tmp_path / "store") == ["b"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.write_bytes("events/1", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"store/b: the disk is full; make room"):
        store.put_directory(bundle(tmp_path / "bundle"), "b")
    with pytest.raises(StorageError, match=r"store/events/1: the disk is full"):
        store.write_bytes("events/1", b"new")
    assert tree(tmp_path / "store") == {"events/1": b"old"}
    assert sorted(os.listdir(tmp_path / "store")) == ["events"]


@pytest.mark.parametrize("same", [True, False])
def test_another_process_may_be_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    store = DirectoryStore(tmp_path / "store")
    theirs = {} if same else {"model_ubj": b"theirs"}
    copy = directory._copy

    def overtaken(files: dict[str, Path], target: Path) -> None:
        copy(files, target)
        bundle(tmp_path / "store" / "b", **theirs)

    monkeypatch.setattr(directory, "_copy", overtaken)
    if same:
        store.put_directory(bundle(tmp_path / "bundle"), "b")
    else:
        with pytest.raises(StorageError, match=r"other content \(model\.ubj\)"):
            store.put_directory(bundle(tmp_path / "bundle"), "b")
    assert os.listdir(tmp_path / "store") == ["b"]


def test_no_permission(locked: Path) -> None:
    store = DirectoryStore(locked)
    for use in (lambda: store.read_bytes("a"), lambda: store.write_bytes("a", b""), store.keys):
        with pytest.raises(StorageError, match=r"locked.*: no permission; check who owns it"):
            use()


def test_half_written_files_are_no_keys(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write_bytes("b/a", b"x")
    (tmp_path / "b" / ".a.0123.part").write_bytes(b"ha")
    bundle(tmp_path / ".b.4567.part")
    assert store.keys() == ["b/a"]
