"""The object store: a directory, or S3 through the minio client; keys look like `bundles/3f2a/model.ubj`."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote
from uuid import uuid4
from xml.etree.ElementTree import ParseError

import httpx
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError, PoolError
from urllib3.response import BaseHTTPResponse

from offers.errors import OffersError, StorageError
from offers.settings import S3Settings, Settings

MANIFEST = "manifest.json"
CHUNK = 1 << 16
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what the bucket's policy allows"
_S3_REASONS = {
    "NoSuchBucket": "there is no such bucket; create it, or correct the URI",
    "NoSuchKey": "there is no such object",
    "AccessDenied": f"access denied; {_KEYS}",
    "InvalidAccessKeyId": f"the access key is unknown; {_KEYS}",
    "SignatureDoesNotMatch": f"the secret key is wrong; {_KEYS}",
}
_OS_REASONS = {
    errno.ENOSPC: "the disk is full; make room and run again",
    errno.EDQUOT: "the disk quota is used up; make room and run again",
    errno.EACCES: "no permission; check who owns it",
    errno.EPERM: "no permission; check who owns it",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOENT: "there is no such file or directory",
    errno.ENOTEMPTY: "is there and not empty; choose another directory",
}


class Store(Protocol):
    """Objects by key. A directory is immutable, and whole once its manifest.json is there.

    Every method may raise StorageError: bad or absent key, disk full, no permission, bucket or server away.
    """

    @property
    def uri(self) -> str:
        """What people call this store."""
        ...

    def put_directory(self, local: Path, key: str) -> None:
        """Store the files under `local`, manifest.json among them; a no-op if `key` holds the same already.

        Raises
        ------
        StorageError
            `key` holds other content, which is never overwritten; or `local` has no manifest.json
        """
        ...

    def get_directory(self, key: str, local: Path) -> None:
        """Copy a whole directory to `local`, which must be absent or empty; all of it appears, or nothing."""
        ...

    def exists(self, key: str) -> bool:
        """Whether `key` is an object or a whole directory."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of all objects that begin with `prefix`, sorted; those of half directories too."""
        ...

    def read_bytes(self, key: str) -> bytes:
        """Content of one object."""
        ...

    def write_bytes(self, key: str, content: bytes) -> None:
        """Write or replace one object; readers see the old content or the new, never a mixture."""
        ...


def open_store(uri: str, settings: Settings) -> Store:
    """Open the store at a path, file:// URI or s3://bucket/prefix; nothing is read or written yet.

    Raises
    ------
    StorageError
        another kind of URI, or an S3 endpoint that is unset or malformed
    """
    if uri.startswith("s3://"):
        bucket, prefix = split_s3(uri, StorageError)
        return S3Store(s3_client(settings.s3, StorageError), bucket, prefix.rstrip("/"))
    if not uri or ("://" in uri and not uri.startswith("file://")):
        raise StorageError(f"store {uri!r}: expected a directory, file:///path or s3://bucket/prefix")
    return DirectoryStore(path_of(uri))


@dataclass(frozen=True)
class DirectoryStore:
    """Objects as files under `root`."""

    root: Path

    @property
    def uri(self) -> str:
        return str(self.root)

    def put_directory(self, local: Path, key: str) -> None:
        files, target = _whole(local), self._path(key)
        with os_errors(target):
            if not target.exists() and _copied(files, target):
                return
            _refuse_difference(_digests(files), _digests(_whole(target)), str(target))

    def get_directory(self, key: str, local: Path) -> None:
        files = _whole(self._path(key))
        with os_errors(local), _new_directory(local) as directory:
            _copy(files, directory)

    def exists(self, key: str) -> bool:
        path = self._path(key)
        with os_errors(path):
            return path.is_file() or (path / MANIFEST).is_file()

    def keys(self, prefix: str = "") -> list[str]:
        parent = prefix.rpartition("/")[0]
        folder = self._path(parent) if parent else self.root
        with os_errors(folder):
            paths = _files(folder).values() if folder.is_dir() else ()
        keys = (path.relative_to(self.root).as_posix() for path in paths)
        return sorted(key for key in keys if key.startswith(prefix))

    def read_bytes(self, key: str) -> bytes:
        path = self._path(key)
        with os_errors(path):
            return path.read_bytes()

    def write_bytes(self, key: str, content: bytes) -> None:
        target = self._path(key)
        temporary = _sibling(target)
        with os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(content)
                sync(temporary)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            sync(target.parent)

    def _path(self, key: str) -> Path:
        return self.root / _checked(key)


@dataclass(frozen=True)
class S3Store:
    """Objects in an S3 bucket under `prefix`, which may be empty."""

    client: Minio
    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        return "/".join(filter(None, ("s3:/", self.bucket, self.prefix)))

    def put_directory(self, local: Path, key: str) -> None:
        files, where = _whole(local), f"{self.uri}/{key}"
        present = self._names(key)
        if MANIFEST in present:
            _refuse_difference(_digests(files), self._digests(key, present), where)
            return
        if strays := sorted(present - files.keys()):
            raise StorageError(f"{where}: holds a half upload of something else ({_some(strays)}); remove it")
        for name in sorted(files, key=lambda name: (name == MANIFEST, name)):
            with os_errors(files[name]), s3_errors(f"{where}/{name}", StorageError):
                self.client.fput_object(self.bucket, self._name(f"{key}/{name}"), str(files[name]))

    def get_directory(self, key: str, local: Path) -> None:
        names = self._names(key)
        if MANIFEST not in names:
            raise _not_whole(f"{self.uri}/{key}", len(names))
        with os_errors(local), _new_directory(local) as directory:
            for name in sorted(names):
                self._save(f"{key}/{name}", directory / name)

    def exists(self, key: str) -> bool:
        return self._has(key) or self._has(f"{key}/{MANIFEST}")

    def keys(self, prefix: str = "") -> list[str]:
        with s3_errors(f"{self.uri}/{prefix}", StorageError):
            listed = self.client.list_objects(self.bucket, prefix=self._root + prefix, recursive=True)
            names = [str(entry.object_name) for entry in listed]
        return sorted(name.removeprefix(self._root) for name in names if not name.endswith("/"))

    def read_bytes(self, key: str) -> bytes:
        with self._opened(key) as response:
            return response.read()

    def write_bytes(self, key: str, content: bytes) -> None:
        with s3_errors(f"{self.uri}/{key}", StorageError):
            self.client.put_object(self.bucket, self._name(key), BytesIO(content), len(content))

    @property
    def _root(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _name(self, key: str) -> str:
        return self._root + _checked(key)

    def _names(self, key: str) -> set[str]:
        return {name.removeprefix(f"{key}/") for name in self.keys(f"{_checked(key)}/")}

    def _has(self, key: str) -> bool:
        # GET rather than HEAD: only its answer tells a missing bucket from a missing object.
        with s3_errors(f"{self.uri}/{key}", StorageError):
            try:
                with s3_object(self.client, self.bucket, self._name(key)):
                    return True
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return False
                raise

    @contextmanager
    def _opened(self, key: str) -> Iterator[BaseHTTPResponse]:
        with (
            s3_errors(f"{self.uri}/{key}", StorageError),
            s3_object(self.client, self.bucket, self._name(key)) as response,
        ):
            yield response

    def _save(self, key: str, path: Path) -> None:
        with self._opened(key) as response:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for chunk in response.stream(CHUNK):
                    file.write(chunk)
        sync(path)

    def _digests(self, key: str, names: set[str]) -> dict[str, str]:
        return {name: self._digest(f"{key}/{name}") for name in names}

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        with self._opened(key) as response:
            for chunk in response.stream(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


def s3_client(s3: S3Settings, kind: type[OffersError]) -> Minio:
    """A minio client that gives up within seconds; `kind` is the error to raise for wrong settings."""
    if not s3.endpoint:
        raise kind("OFFERS_S3_ENDPOINT: expected http://host:9000 or https://host, but it is not set")
    try:
        return Minio(
            s3.endpoint,
            access_key=s3.access_key or None,
            secret_key=s3.secret_key.get_secret_value(),
            secure=s3.secure,
            region=s3.region or None,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
                retries=urllib3.Retry(
                    total=2, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), raise_on_status=False
                ),
                ssl_context=httpx.create_ssl_context() if s3.secure else None,
            ),
        )
    except ValueError as error:
        raise kind(
            f"OFFERS_S3_ENDPOINT: expected http://host:9000 or https://host, got {s3.endpoint!r} ({error})"
        ) from None


@contextmanager
def s3_object(client: Minio, bucket: str, name: str, offset: int = 0, version: str = "") -> Iterator[BaseHTTPResponse]:
    """Open an object from byte `offset` on, for reading; with `version`, only while its ETag is that."""
    headers: dict[str, str | list[str] | tuple[str]] = {"If-Match": version} if version else {}
    response = client.get_object(bucket, name, offset=offset, request_headers=headers)
    try:
        yield response
    finally:
        response.close()
        response.release_conn()


@contextmanager
def s3_errors(where: str, kind: type[OffersError]) -> Iterator[None]:
    """Turn what the minio client raises into one sentence of `kind` that begins with `where`."""
    try:
        yield
    except S3Error as error:
        reason = _S3_REASONS.get(str(error.code), f"the object store says {error.code}: {error.message}")
        raise kind(f"{where}: {reason}") from None
    except PoolError as error:
        cause = str(getattr(error, "reason", error)).rpartition(": ")[2]
        endpoint = f"{getattr(error.pool, 'host', '')}:{getattr(error.pool, 'port', '')}"
        raise kind(f"{where}: no answer from {endpoint} ({cause}); check OFFERS_S3_ENDPOINT") from None
    except HTTPError as error:
        raise kind(f"{where}: the transfer was cut short ({error}); run again") from None
    except (MinioException, ParseError) as error:
        raise kind(f"{where}: expected the answer of an S3 server ({error}); check OFFERS_S3_ENDPOINT") from None
    except ValueError as error:
        raise kind(f"{where}: {error}") from None


@contextmanager
def os_errors(where: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError of one sentence that names the file, or else `where`."""
    try:
        yield
    except OSError as error:
        reason = _OS_REASONS.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(f"{error.filename2 or error.filename or where}: {reason}") from None


def split_s3(uri: str, kind: type[OffersError]) -> tuple[str, str]:
    """Bucket and key of s3://bucket/key; the key may be empty."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise kind(f"{uri!r}: expected s3://bucket/key, got no bucket")
    return bucket, key


def path_of(uri: str) -> Path:
    """The path that a path or a file:// URI names."""
    if not uri.startswith("file://"):
        return Path(uri)
    return Path(unquote(uri.removeprefix("file://").removeprefix("localhost")))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(key: str) -> str:
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key or _is_temporary(key):
        raise StorageError(f"key {key!r}: expected names joined by '/', without '.', '..' or a leading '/'")
    return key


def _is_temporary(key: str) -> bool:
    return any(part.startswith(".") and part.endswith(".part") for part in PurePosixPath(key).parts)


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid4().hex}.part")


def _files(folder: Path) -> dict[str, Path]:
    paths = []
    for parent, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if not _is_temporary(name)]
        paths += [Path(parent, name) for name in names if not _is_temporary(name)]
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _fail(error: OSError) -> None:
    raise error


def _whole(folder: Path) -> dict[str, Path]:
    with os_errors(folder):
        files = _files(folder)
    if MANIFEST not in files:
        raise _not_whole(str(folder), len(files))
    return files


def _not_whole(where: str, count: int) -> StorageError:
    return StorageError(f"{where}: expected a whole directory, with {MANIFEST}; found {count} files without it")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5])


def _digests(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: sha256_of(path) for name, path in files.items()}


def _refuse_difference(ours: Mapping[str, str], theirs: Mapping[str, str], where: str) -> None:
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if differing:
        raise StorageError(f"{where}: is there with other content ({_some(differing)}), and is never overwritten")


def _copied(files: Mapping[str, Path], target: Path) -> bool:
    """Copy files to a new directory; False if another process made that directory first."""
    try:
        with _new_directory(target) as directory:
            _copy(files, directory)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _copy(files: Mapping[str, Path], directory: Path) -> None:
    for name, path in files.items():
        copy = directory / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        sync(copy)


@contextmanager
def _new_directory(target: Path) -> Iterator[Path]:
    """A temporary sibling of `target` that takes its name when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(target)
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
