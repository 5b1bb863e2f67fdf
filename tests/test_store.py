"""Both kinds of store against the same promises: whole or absent, never overwritten, errors in one sentence."""

import errno
import os
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import socket
from threading import Thread

import pytest
from s3_double import Request, S3Double

from offers import store as store_module
from offers.errors import StorageError
from offers.settings import S3Settings, Settings
from offers.store import Store, open_store

FILES = {"manifest.json": b"{}", "model.ubj": b"\x00trees" * 1000, "plots/reliability.svg": b"<svg/>", "empty": b""}


@pytest.fixture
def s3() -> Iterator[S3Double]:
    with S3Double("bank") as double:
        yield double


@pytest.fixture(params=["directory", "s3", "s3 with prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Double) -> Store:
    uri = {"directory": str(tmp_path / "store"), "s3": "s3://bank", "s3 with prefix": "s3://bank/team/offers/"}
    return open_store(uri[request.param], Settings(s3=s3.settings))


@pytest.fixture
def s3_store(s3: S3Double) -> Store:
    return open_store("s3://bank/offers", Settings(s3=s3.settings))


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def bundle(folder: Path, **changed: bytes) -> Path:
    for name, content in (FILES | {name.replace("_", "."): value for name, value in changed.items()}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


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


def test_a_reader_keeps_the_file_that_it_opened(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), Settings())
    store.write_bytes("events/1", b"old")
    with (tmp_path / "events" / "1").open("rb") as opened:
        store.write_bytes("events/1", b"new")
        assert opened.read() == b"old"


def test_an_absent_object_is_named(store: Store) -> None:
    with pytest.raises(StorageError, match=r"events/7: there is no such"):
        store.read_bytes("events/7")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", "./a", "a\\b", "a/.b.part"])
def test_keys_never_lead_out(store: Store, key: str) -> None:
    for use in (store.read_bytes, store.exists, lambda key: store.write_bytes(key, b"x")):
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


def test_the_same_directory_again_changes_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), Settings())
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    before = (tmp_path / "store" / "b" / "model.ubj").stat()
    store.put_directory(tmp_path / "bundle", "b")
    assert (tmp_path / "store" / "b" / "model.ubj").stat().st_ino == before.st_ino
    assert os.listdir(tmp_path / "store") == ["b"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "store"), Settings())
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
    store = open_store(str(tmp_path / "store"), Settings())
    theirs = {} if same else {"model_ubj": b"theirs"}
    copy = store_module._copy

    def overtaken(files: dict[str, Path], directory: Path) -> None:
        copy(files, directory)
        bundle(tmp_path / "store" / "b", **theirs)

    monkeypatch.setattr(store_module, "_copy", overtaken)
    if same:
        store.put_directory(bundle(tmp_path / "bundle"), "b")
    else:
        with pytest.raises(StorageError, match=r"other content \(model\.ubj\)"):
            store.put_directory(bundle(tmp_path / "bundle"), "b")
    assert os.listdir(tmp_path / "store") == ["b"]


def test_no_permission(tmp_path: Path, unprivileged: None) -> None:
    store = open_store(str(tmp_path / "locked"), Settings())
    for use in (lambda: store.read_bytes("a"), lambda: store.write_bytes("a", b""), store.keys):
        with pytest.raises(StorageError, match=r"locked.*: no permission; check who owns it"):
            use()


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[None]:
    """Nobody may enter `locked`, and even root is nobody."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)
    locked.chmod(0o700)


def test_half_written_files_are_no_keys(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), Settings())
    store.write_bytes("b/a", b"x")
    (tmp_path / "b" / ".a.0123.part").write_bytes(b"ha")
    bundle(tmp_path / ".b.4567.part")
    assert store.keys() == ["b/a"]


def test_the_manifest_goes_last(s3: S3Double, s3_store: Store, tmp_path: Path) -> None:
    s3_store.put_directory(bundle(tmp_path / "bundle"), "b")
    assert s3.seen("PUT")[-1] == "offers/b/manifest.json"
    assert s3.buckets["bank"] == {f"offers/b/{name}": content for name, content in FILES.items()}


def test_the_same_directory_again_is_not_sent(s3: S3Double, s3_store: Store, tmp_path: Path) -> None:
    s3_store.put_directory(bundle(tmp_path / "bundle"), "b")
    s3_store.put_directory(tmp_path / "bundle", "b")
    assert len(s3.seen("PUT")) == len(FILES)


def test_a_half_upload_is_never_whole_and_can_be_completed(s3: S3Double, s3_store: Store, tmp_path: Path) -> None:
    s3.refuse = lambda request: (400, "IncompleteBody") if request.method == "PUT" and len(s3.seen("PUT")) > 2 else None
    with pytest.raises(StorageError, match=r"^s3://bank/offers/b/\S+: the object store says IncompleteBody: because"):
        s3_store.put_directory(bundle(tmp_path / "bundle"), "b")
    assert len(s3_store.keys("b/")) == 2
    assert not s3_store.exists("b")
    with pytest.raises(StorageError, match="expected a whole directory"):
        s3_store.get_directory("b", tmp_path / "copy")
    s3.refuse = lambda request: None
    s3_store.put_directory(tmp_path / "bundle", "b")
    s3_store.get_directory("b", tmp_path / "copy")
    assert tree(tmp_path / "copy") == FILES


def test_a_half_upload_of_something_else_is_not_mixed_in(s3: S3Double, s3_store: Store, tmp_path: Path) -> None:
    s3.buckets["bank"]["offers/b/foreign.bin"] = b"x"
    with pytest.raises(StorageError, match=r"half upload of something else \(foreign\.bin\); remove it"):
        s3_store.put_directory(bundle(tmp_path / "bundle"), "b")
    assert s3.seen("PUT") == []


def test_a_listing_goes_over_pages(s3: S3Double, s3_store: Store) -> None:
    s3.page = 2
    s3.buckets["bank"] = {f"offers/{number}": b"x" for number in range(5)} | {"offers/folder/": b""}
    assert s3_store.keys() == ["0", "1", "2", "3", "4"]


def test_a_key_from_the_server_never_leads_out(s3: S3Double, s3_store: Store, tmp_path: Path) -> None:
    s3.buckets["bank"] = {"offers/b/manifest.json": b"{}", "offers/b/../../evil": b"x"}
    with pytest.raises(StorageError, match="expected names joined by '/'"):
        s3_store.get_directory("b", tmp_path / "in" / "copy")
    assert tree(tmp_path) == {}


def test_a_download_cut_short_leaves_nothing(s3: S3Double, s3_store: Store, tmp_path: Path) -> None:
    s3_store.put_directory(bundle(tmp_path / "bundle"), "b")
    s3.short = 1
    with pytest.raises(StorageError, match="cut short"):
        s3_store.get_directory("b", tmp_path / "in" / "copy")
    assert os.listdir(tmp_path / "in") == []


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ((404, "NoSuchBucket"), "there is no such bucket"),
        ((403, "AccessDenied"), "access denied; check AWS_ACCESS_KEY_ID"),
        ((403, "InvalidAccessKeyId"), "the access key is unknown"),
        ((403, "SignatureDoesNotMatch"), "the secret key is wrong"),
        ((409, "OperationAborted"), "the object store says OperationAborted: because OperationAborted"),
    ],
)
def test_what_the_server_refuses(
    s3: S3Double, s3_store: Store, tmp_path: Path, refusal: tuple[int, str], reason: str
) -> None:
    def refuse(request: Request) -> tuple[int, str]:
        return refusal

    s3.refuse = refuse
    for use in (
        lambda: s3_store.exists("a"),
        s3_store.keys,
        lambda: s3_store.read_bytes("a"),
        lambda: s3_store.write_bytes("a", b"x"),
        lambda: s3_store.put_directory(bundle(tmp_path / "bundle"), "b"),
    ):
        with pytest.raises(StorageError, match=rf"^s3://bank/offers/\S*: {reason}"):
            use()


def test_no_bucket(s3: S3Double) -> None:
    store = open_store("s3://absent", Settings(s3=s3.settings))
    with pytest.raises(StorageError, match="s3://absent/a: there is no such bucket; create it"):
        store.exists("a")


@pytest.mark.parametrize("uri", ["s3://", "s3:///offers"])
def test_a_uri_without_bucket(uri: str) -> None:
    with pytest.raises(StorageError, match="expected s3://bucket/key, got no bucket"):
        open_store(uri, Settings(s3=S3Settings(endpoint="127.0.0.1:9", secure=False)))


def test_a_bucket_name_that_none_can_have(s3: S3Double) -> None:
    with pytest.raises(StorageError, match=r"s3://a\.\.b/k: .*successive"):
        open_store("s3://a..b", Settings(s3=s3.settings)).read_bytes("k")


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [("", "expected http://host:9000 or https://host, but it is not set"), ("host/path", "got 'host/path'")],
)
def test_an_endpoint_that_is_none(endpoint: str, message: str) -> None:
    with pytest.raises(StorageError, match=f"OFFERS_S3_ENDPOINT: .*{message}"):
        open_store("s3://bank", Settings(s3=S3Settings(endpoint=endpoint)))


@pytest.mark.parametrize("secure", [True, False])
def test_an_endpoint_where_nobody_listens(secure: bool) -> None:
    with socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{bound.getsockname()[1]}"
        settings = Settings(s3=S3Settings(endpoint=endpoint, secure=secure))
        with pytest.raises(StorageError, match=rf"s3://bank/a: no answer from {endpoint} \(.*refused\); check OFFERS"):
            open_store("s3://bank", settings).read_bytes("a")


def test_an_endpoint_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "READ_SECONDS", 0.05)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as listening:
        settings = Settings(s3=S3Settings(endpoint=f"127.0.0.1:{listening.server_port}", secure=False))
        with pytest.raises(StorageError, match=r"no answer from 127\.0\.0\.1:\d+ \(.*timed out"):
            open_store("s3://bank", settings).read_bytes("a")


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_endpoint_that_is_no_s3(status: int) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><p>Hello"
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        settings = Settings(s3=S3Settings(endpoint=f"127.0.0.1:{server.server_port}", secure=False))
        try:
            with pytest.raises(StorageError, match="expected the answer of an S3 server"):
                open_store("s3://bank", settings).keys()
        finally:
            server.shutdown()
            thread.join()
