"""S3 over the wire: what the server sees, refuses, cuts short; objects as downloads."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import socket
from threading import Thread

import pytest
from pydantic import SecretStr

from offers import http_pool
from offers.data.sources import fetch, ingest
from offers.errors import SourceError, StorageError
from offers.settings import S3Settings, Settings
from offers.store.store import Store, open_store
from tests.support.s3_double import Request, S3Double
from tests.support.small import LARGE, SMALL, contract, sha256
from tests.support.trees import FILES, bundle, tree


def keyed(endpoint: str, secure: bool = False) -> S3Settings:
    return S3Settings(endpoint=endpoint, access_key="me", secret_key=SecretStr("mine"), secure=secure)


@pytest.fixture
def s3_store(s3: S3Double) -> Store:
    return open_store("s3://bank/offers", Settings(s3=s3.settings))


@pytest.fixture
def in_s3(s3: S3Double, tmp_path: Path) -> Settings:
    s3.buckets["bank"]["raw/small.csv"] = LARGE
    return Settings(home=tmp_path / "home", s3=s3.settings)


def test_the_manifest_goes_last(s3: S3Double, s3_store: Store, tmp_path: Path) -> None:
    s3_store.put_directory(bundle(tmp_path / "bundle"), "b")
    assert s3.seen("PUT")[-1] == "offers/b/manifest.json"
    assert s3.buckets["bank"] == {f"offers/b/{name}": content for name, content in FILES.items()}


def test_a_creation_whose_answer_was_lost_is_ours_all_the_same(s3: S3Double, s3_store: Store) -> None:
    s3.lose_answer = lambda request: len(s3.seen("PUT")) == 1
    assert s3_store.create("ledger/1", b"mine")
    assert s3.seen("PUT") == ["offers/ledger/1", "offers/ledger/1"]
    assert not s3_store.create("ledger/1", b"mine")


def test_a_creation_that_met_another_in_flight_is_tried_again(s3: S3Double, s3_store: Store) -> None:
    s3.refuse = lambda request: (409, "ConditionalRequestConflict") if len(s3.seen("PUT")) == 1 else None
    assert s3_store.create("ledger/1", b"mine")
    s3.refuse = lambda request: (409, "ConditionalRequestConflict")
    with pytest.raises(StorageError, match=r"ledger/2: other writers held it 5 times; try again"):
        s3_store.create("ledger/2", b"mine")


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


def test_a_session_token_is_sent_and_never_shown(s3: S3Double) -> None:
    env = {"OFFERS_S3_ENDPOINT": f"http://{s3.address}", "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine"}
    open_store("s3://bank", Settings.from_env(env)).keys()
    settings = Settings.from_env(env | {"AWS_SESSION_TOKEN": "tiger"})
    open_store("s3://bank", settings).keys()
    tokens = [request.headers.get("X-Amz-Security-Token") for request in s3.requests]
    assert tokens == [None, None, "tiger", "tiger"]
    assert "tiger" not in repr(settings)


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
        settings = Settings(s3=keyed(endpoint, secure))
        with pytest.raises(StorageError, match=rf"s3://bank/a: no answer from {endpoint} \(.*refused\); check OFFERS"):
            open_store("s3://bank", settings).read_bytes("a")


def test_an_endpoint_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "READ_SECONDS", 0.05)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as listening:
        settings = Settings(s3=keyed(f"127.0.0.1:{listening.server_port}"))
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
        settings = Settings(s3=keyed(f"127.0.0.1:{server.server_port}"))
        try:
            with pytest.raises(StorageError, match="expected the answer of an S3 server"):
                open_store("s3://bank", settings).keys()
        finally:
            server.shutdown()
            thread.join()


def test_an_object_is_fetched_once_per_version(s3: S3Double, in_s3: Settings) -> None:
    uri = "s3://bank/raw/small.csv"
    got = ingest(contract(), in_s3, uri)
    assert (len(got.frame), got.origin, got.sha256) == (50_000, uri, sha256(LARGE))
    calls: list[int] = []
    fetch(contract(), in_s3, uri, lambda done, total: calls.append(done))
    assert calls == []
    s3.buckets["bank"]["raw/small.csv"] = SMALL
    assert fetch(contract(), in_s3, uri).read_bytes() == SMALL


@pytest.mark.parametrize("changed", [LARGE, SMALL, LARGE.replace(b"clerk", b"baker")])
def test_a_cut_object_goes_on_where_it_stopped(s3: S3Double, in_s3: Settings, changed: bytes) -> None:
    uri = "s3://bank/raw/small.csv"
    s3.short = 100_000
    with pytest.raises(SourceError, match=r"small\.csv: the transfer was cut short .*; else save the file"):
        fetch(contract(), in_s3, uri)
    s3.short, s3.buckets["bank"]["raw/small.csv"] = 0, changed
    assert fetch(contract(), in_s3, uri).read_bytes() == changed
    ranges = [request.headers.get("Range", "all") for request in s3.requests if request.key]
    assert ranges[0] == "all"
    start = int(ranges[1].removeprefix("bytes=").removesuffix("-"))
    assert len(LARGE) - 100_000 - (1 << 16) <= start <= len(LARGE) - 100_000
    assert ranges[2:] == ([] if changed == LARGE else ["all"])


def test_the_contracts_own_object(s3: S3Double, in_s3: Settings) -> None:
    uri = "s3://bank/raw/small.csv"
    assert ingest(contract(uri=uri, sha256=sha256(LARGE)), in_s3).sha256 == sha256(LARGE)
    with pytest.raises(SourceError, match=f"expected SHA-256 {sha256(SMALL)}, got {sha256(LARGE)}.*OFFERS_DATA_DIR"):
        ingest(contract(uri=uri, sha256=sha256(SMALL)), in_s3)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://absent/small.csv", "there is no such bucket"),
        ("s3://bank/absent.csv", "there is no such object"),
        ("s3://bank", "expected s3://bucket/key, got no key"),
        ("s3:///small.csv", "expected s3://bucket/key, got no bucket"),
    ],
)
def test_objects_that_are_not_there(in_s3: Settings, uri: str, message: str) -> None:
    with pytest.raises(SourceError, match=f"{uri}.*: {message}"):
        ingest(contract(), in_s3, uri)


def test_an_object_that_is_not_ours(s3: S3Double, in_s3: Settings) -> None:
    s3.refuse = lambda request: (403, "AccessDenied")
    with pytest.raises(SourceError, match=r"s3://bank/raw/small\.csv: access denied; check AWS_ACCESS_KEY_ID"):
        ingest(contract(), in_s3, "s3://bank/raw/small.csv")


def test_no_object_store(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"OFFERS_S3_ENDPOINT: .* it is not set"):
        ingest(contract(), Settings(home=tmp_path), "s3://bank/small.csv")
    with socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{bound.getsockname()[1]}"
        settings = Settings(home=tmp_path, s3=keyed(endpoint))
        with pytest.raises(SourceError, match=f"no answer from {endpoint}"):
            ingest(contract(), settings, "s3://bank/small.csv")
