"""The object store: a directory, or S3 through the minio client; keys look like `bundles/3f2a/model.ubj`."""

from pathlib import Path
from typing import Protocol

from offers.errors import StorageError
from offers.files import path_of
from offers.settings import Settings
from offers.store.directory import DirectoryStore


class Store(Protocol):
    """Objects by key. A directory is immutable, and whole once its manifest.json is there.

    Every method may raise StorageError: bad or missing key, full disk, no permission, bucket or server not reachable.
    """

    @property
    def uri(self) -> str:
        """The store's name for people."""
        ...

    def put_directory(self, local: Path, key: str) -> None:
        """Store the files under `local`, which include manifest.json; does nothing if `key` has the same files already.

        Raises
        ------
        StorageError
            `key` holds other content, which is never overwritten; or `local` has no manifest.json
        """
        ...

    def get_directory(self, key: str, local: Path) -> None:
        """Copy a whole directory to `local`, which must be absent or empty; either all of it appears or nothing."""
        ...

    def exists(self, key: str) -> bool:
        """Whether `key` is an object or a whole directory."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys of all objects that begin with `prefix`, sorted, including those of incomplete directories."""
        ...

    def read_bytes(self, key: str) -> bytes:
        """Content of one object."""
        ...

    def write_bytes(self, key: str, content: bytes) -> None:
        """Write or replace one object; readers see the old content or the new, never a mixture."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Write one object if there is none; returns False if there is one, which stays as it is.

        If several writers on any machines create the same key at once, only one gets True, even for equal content.
        """
        ...


def open_store(uri: str, settings: Settings) -> Store:
    """Open the store at a path, file:// URI or s3://bucket/prefix; nothing is read or written yet.

    Raises
    ------
    StorageError
        another kind of URI, or an S3 endpoint that is unset or malformed
    """
    if uri.startswith("s3://"):
        from offers.store import s3

        bucket, prefix = s3.split(uri)
        return s3.S3Store(s3.connect(settings.s3), bucket, prefix.rstrip("/"))
    if not uri or ("://" in uri and not uri.startswith("file://")):
        raise StorageError(f"store {uri!r}: expected a directory, file:///path or s3://bucket/prefix")
    return DirectoryStore(path_of(uri))
