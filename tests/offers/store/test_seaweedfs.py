"""The object store of Kubeflow Pipelines itself: what its buckets take, and whom it refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from offers import http_pool
from offers.errors import StorageError
from offers.settings import S3Settings, Settings
from offers.store.s3 import make_bucket
from offers.store.store import Store, open_store
from tests.support.creating import assert_one_creates
from tests.support.seaweedfs import ours, seaweedfs
from tests.support.trees import FILES, bundle, tree


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs"), ours()) as settings:
        # Kubeflow's own bucket comes first.
        make_bucket("mlpipeline", settings)
        make_bucket("offers", settings)
        yield settings


@pytest.fixture
def store(server: S3Settings, request: pytest.FixtureRequest) -> Store:
    return open_store(f"s3://offers/{request.node.name}", Settings(s3=server))


def test_a_bucket_that_is_there_is_left_as_it_is(server: S3Settings, store: Store) -> None:
    store.write_bytes("kept", b"content")
    make_bucket("offers", server)
    assert store.read_bytes("kept") == b"content"
    assert open_store("s3://offers", Settings(s3=server)).exists("probe") is False


def test_a_bundle_comes_back_to_the_byte(store: Store, tmp_path: Path) -> None:
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    store.put_directory(tmp_path / "bundle", "b")
    store.get_directory("b", tmp_path / "copy")
    assert tree(tmp_path / "copy") == FILES
    assert store.exists("b")
    assert store.keys() == sorted(f"b/{name}" for name in FILES)


def test_a_bundle_is_never_written_over(store: Store, tmp_path: Path) -> None:
    store.put_directory(bundle(tmp_path / "bundle"), "b")
    (tmp_path / "bundle" / "model.ubj").write_bytes(b"another model")
    with pytest.raises(StorageError):
        store.put_directory(tmp_path / "bundle", "b")


def test_one_of_many_writers_creates_an_object(store: Store) -> None:
    assert_one_creates(store, writers=8, keys=100)
    assert not store.create("race/000", b"a late writer")


@pytest.mark.parametrize("wrong", [{"access_key": "nobody"}, {"secret_key": SecretStr("wrong")}])
def test_wrong_keys_are_told(server: S3Settings, wrong: dict[str, object]) -> None:
    with pytest.raises(StorageError, match="check AWS_ACCESS_KEY_ID"):
        make_bucket("others", server.model_copy(update=wrong))


def test_what_is_not_there_is_told(server: S3Settings, store: Store) -> None:
    with pytest.raises(StorageError, match="there is no such object"):
        store.read_bytes("nothing")
    with pytest.raises(StorageError, match="there is no such bucket"):
        open_store("s3://elsewhere", Settings(s3=server)).read_bytes("nothing")


@pytest.mark.slow
def test_a_bucket_without_room_is_refused_when_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk with fewer free GiB than the buckets before it take, the bucket is made, and takes nothing."""
    monkeypatch.setattr(http_pool, "READ_SECONDS", 3.0)
    with seaweedfs(tmp_path, "-volume.max=7") as settings:
        make_bucket("mlpipeline", settings)
        with pytest.raises(StorageError, match=r"^s3://offers: "):
            make_bucket("offers", settings)
