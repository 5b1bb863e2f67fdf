"""Both kinds of store against the same promises: whole or absent, never overwritten, errors in one sentence."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from offers.errors import StorageError
from offers.settings import S3Settings, Settings
from offers.store.store import Store, open_store
from tests.support.creating import assert_one_creates
from tests.support.s3_double import S3Double
from tests.support.trees import FILES, bundle, tree


@pytest.fixture(params=["directory", "s3", "s3 with prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Double) -> Store:
    uri = {"directory": str(tmp_path / "store"), "s3": "s3://bank", "s3 with prefix": "s3://bank/team/offers/"}
    return open_store(uri[request.param], Settings(s3=s3.settings))


def test_a_directory_needs_no_library_of_s3(tmp_path: Path) -> None:
    script = (
        "import sys; from offers.settings import Settings; from offers.store.store import open_store\n"
        "open_store(sys.argv[1], Settings()).write_bytes('a', b'x')\n"
        "print({'httpx', 'minio', 'urllib3', 'pandas'} & sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (tmp_path / "a").read_bytes() == b"x"
    assert done.stdout == "set()\n"


def test_a_directory_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    store.put_directory(bundle(tmp_path / "bundle"), "bundles/3f2a")
    store.get_directory("bundles/3f2a", tmp_path / "copy" / "3f2a")
    assert tree(tmp_path / "copy" / "3f2a") == FILES
    assert os.listdir(tmp_path / "copy") == ["3f2a"]


def test_a_directory_comes_into_an_empty_one(store: Store, tmp_path: Path) -> None:
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    (tmp_path / "copy").mkdir()
    store.get_directory("b", tmp_path / "copy")
    assert tree(tmp_path / "copy") == FILES


def test_a_directory_that_is_not_empty_is_left_alone(store: Store, tmp_path: Path) -> None:
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    mine = tmp_path / "copy" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(StorageError, match=re.escape(f"{mine.parent}: is there and not empty")):
        store.get_directory("b", mine.parent)
    assert tree(mine.parent) == {"mine.txt": b"mine"}
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_other_content_under_the_same_key_is_refused(store: Store, tmp_path: Path) -> None:
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    other = bundle(tmp_path / "other", model_ubj=b"\x00TREES" * 1000)
    with pytest.raises(StorageError, match=r"with other content \(model\.ubj\), and is never overwritten"):
        store.put_directory(other, "b")
    store.get_directory("b", tmp_path / "copy")
    assert tree(tmp_path / "copy") == FILES


def test_a_file_more_or_less_is_other_content(store: Store, tmp_path: Path) -> None:
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    (tmp_path / "bundle" / "card.html").write_text("card")
    (tmp_path / "bundle" / "empty").unlink()
    with pytest.raises(StorageError, match=r"\(card\.html, empty\)"):
        store.put_directory(tmp_path / "bundle", "b")


def test_a_directory_needs_a_manifest(store: Store, tmp_path: Path) -> None:
    (bundle(tmp_path / "bundle") / "manifest.json").unlink()
    with pytest.raises(StorageError, match=r"expected a whole directory, with manifest\.json; found 3 files"):
        store.put_directory(tmp_path / "bundle", "b")
    with pytest.raises(StorageError, match=re.escape(f"{tmp_path / 'absent'}: there is no such")):
        store.put_directory(tmp_path / "absent", "b")
    assert store.keys() == []


def test_an_absent_directory_is_an_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="b: "):
        store.get_directory("b", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_exists_for_objects_and_whole_directories(store: Store, tmp_path: Path) -> None:
    assert not store.exists("b")
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    store.write_bytes("half/model.ubj", b"trees")
    found = [key for key in ("b", "b/model.ubj", "b/plots", "half", "half/model.ubj", "bb") if store.exists(key)]
    assert found == ["b", "b/model.ubj", "half/model.ubj"]


def test_keys_are_those_that_begin_with_the_prefix(store: Store) -> None:
    assert store.keys() == []
    for key in ("runs/2/a", "runs/10/b c+ü.json", "runs/1", "bundles/x", "run"):
        store.write_bytes(key, b"x")
    assert store.keys() == ["bundles/x", "run", "runs/1", "runs/10/b c+ü.json", "runs/2/a"]
    assert store.keys("runs/1") == ["runs/1", "runs/10/b c+ü.json"]
    assert store.keys("runs/10/") == ["runs/10/b c+ü.json"]
    assert store.keys("absent/") == []
    assert store.read_bytes("runs/10/b c+ü.json") == b"x"


def test_an_object_is_replaced_as_a_whole(store: Store) -> None:
    store.write_bytes("events/1", b"old and longer")
    store.write_bytes("events/1", b"new")
    assert store.read_bytes("events/1") == b"new"
    assert store.keys() == ["events/1"]


def test_one_of_many_writers_creates_an_object(store: Store) -> None:
    assert_one_creates(store, writers=8, keys=100)


def test_an_object_that_is_there_is_not_created(store: Store) -> None:
    assert store.create("ledger/1", b"first")
    assert not store.create("ledger/1", b"second")
    assert not store.create("ledger/1", b"first")
    assert store.read_bytes("ledger/1") == b"first"
    assert store.keys() == ["ledger/1"]


def test_an_absent_object_is_named(store: Store) -> None:
    with pytest.raises(StorageError, match=r"events/7: there is no such"):
        store.read_bytes("events/7")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", "./a", "a\\b", "a/.b.part"])
def test_keys_never_lead_out(store: Store, key: str) -> None:
    for use in (
        store.read_bytes,
        store.exists,
        lambda key: store.write_bytes(key, b"x"),
        lambda key: store.create(key, b"x"),
    ):
        with pytest.raises(StorageError, match="expected names joined by '/'"):
            use(key)


@pytest.mark.parametrize("uri", ["", "gs://bank/offers", "https://bank/offers"])
def test_other_kinds_of_uri(uri: str) -> None:
    with pytest.raises(StorageError, match=r"expected a directory, file:///path or s3://bucket/prefix"):
        open_store(uri, Settings())


@pytest.mark.parametrize("prefix", ["file://", "file://localhost"])
def test_a_file_uri_is_a_directory(tmp_path: Path, prefix: str) -> None:
    open_store(f"{prefix}{tmp_path}/my%20store", Settings()).write_bytes("a", b"x")
    assert (tmp_path / "my store" / "a").read_bytes() == b"x"


def test_uris_are_shown_in_short() -> None:
    settings = Settings(s3=S3Settings(endpoint="127.0.0.1:9", secure=False))
    assert open_store("s3://bank", settings).uri == "s3://bank"
    assert open_store("s3://bank/a/b/", settings).uri == "s3://bank/a/b"
    assert open_store("some/where", settings).uri == "some/where"
