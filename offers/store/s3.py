"""S3 through the minio client: a bucket as object store."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from uuid import uuid4
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError, PoolError
from urllib3.response import BaseHTTPResponse

from offers.errors import StorageError
from offers.files import os_errors, sync
from offers.http_pool import Pool
from offers.settings import S3Settings
from offers.store.credentials import cause, credentials
from offers.store.directory import MANIFEST, checked, digests, new_directory, not_whole, refuse_difference, whole
from offers.wording import some

_PROBE = "probe"
_WRITER = "x-amz-meta-writer"
_CREATE_ATTEMPTS = 5
OBJECT_BYTES = 256 << 20
"""Of an object that is read into memory."""

_KEYS = (
    "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the role AWS_ROLE_ARN,"
    " and what the bucket's policy allows"
)
_PASSING = {"InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"}
"""What a store says that is busy or begins anew."""
_REASONS = {
    "NoSuchBucket": "there is no such bucket; create it, or correct the URI",
    "NoSuchKey": "there is no such object",
    "AccessDenied": f"access denied; {_KEYS}",
    "InvalidAccessKeyId": f"the access key is unknown; {_KEYS}",
    "SignatureDoesNotMatch": f"the secret key is wrong; {_KEYS}",
    "ExpiredToken": f"the session token has expired; {_KEYS}",
}


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
        files, where = whole(local), f"{self.uri}/{key}"
        present = self._names(key)
        if MANIFEST in present:
            refuse_difference(digests(files), {name: self._digest(f"{key}/{name}") for name in present}, where)
            return
        if strays := sorted(present - files.keys()):
            raise StorageError(f"{where}: holds a half upload of something else ({some(strays)}); remove it")
        for name in sorted(files, key=lambda name: (name == MANIFEST, name)):
            with os_errors(files[name]), errors(f"{where}/{name}"):
                self.client.fput_object(self.bucket, self._name(f"{key}/{name}"), str(files[name]))

    def get_directory(self, key: str, local: Path) -> None:
        names = self._names(key)
        if MANIFEST not in names:
            raise not_whole(f"{self.uri}/{key}", len(names))
        with os_errors(local), new_directory(local) as directory:
            for name in sorted(names):
                self._save(f"{key}/{name}", directory / name)

    def exists(self, key: str) -> bool:
        return self._has(key) or self._has(f"{key}/{MANIFEST}")

    def keys(self, prefix: str = "") -> list[str]:
        with errors(f"{self.uri}/{prefix}"):
            entries = self.client.list_objects(self.bucket, prefix=self._root + prefix, recursive=True)
            names = [str(entry.object_name) for entry in entries]
        return sorted(name.removeprefix(self._root) for name in names if not name.endswith("/"))

    def read_bytes(self, key: str) -> bytes:
        with self._opened(key) as response:
            content = response.read(OBJECT_BYTES + 1)
        if len(content) > OBJECT_BYTES:
            raise StorageError(f"{self.uri}/{key}: expected at most {OBJECT_BYTES} bytes, got more")
        return content

    def write_bytes(self, key: str, content: bytes) -> None:
        with errors(f"{self.uri}/{key}"):
            self.client.put_object(self.bucket, self._name(key), BytesIO(content), len(content))

    def create(self, key: str, content: bytes) -> bool:
        writer, where = uuid4().hex, f"{self.uri}/{key}"
        headers: dict[str, str | list[str] | tuple[str]] = {"If-None-Match": "*", _WRITER: writer}
        for _ in range(_CREATE_ATTEMPTS):
            with errors(where):
                try:
                    # put_object has no argument for a conditional header.
                    self.client._put_object(self.bucket, self._name(key), content, headers=headers)
                except S3Error as error:
                    if error.code == "PreconditionFailed":
                        return self._writer(key) == writer
                    if error.code != "ConditionalRequestConflict":
                        raise
                else:
                    return True
        raise StorageError(f"{where}: other writers held it {_CREATE_ATTEMPTS} times; try again")

    def _writer(self, key: str) -> str:
        """Find who created an object. It may be this process, if an answer was lost and the client tried again."""
        return str((self.client.stat_object(self.bucket, self._name(key)).metadata or {}).get(_WRITER, ""))

    @property
    def _root(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _name(self, key: str) -> str:
        return self._root + checked(key)

    def _names(self, key: str) -> set[str]:
        return {name.removeprefix(f"{key}/") for name in self.keys(f"{checked(key)}/")}

    def _has(self, key: str) -> bool:
        # GET instead of HEAD, because only its answer tells a missing bucket from a missing object.
        with errors(f"{self.uri}/{key}"):
            try:
                self.client.get_object(self.bucket, self._name(key)).close()
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return False
                raise
            return True

    @contextmanager
    def _opened(self, key: str) -> Iterator[BaseHTTPResponse]:
        with (
            errors(f"{self.uri}/{key}"),
            closing(self.client.get_object(self.bucket, self._name(key))) as response,
        ):
            yield response

    def _save(self, key: str, path: Path) -> None:
        with self._opened(key) as response:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(response, file)
        sync(path)

    def _digest(self, key: str) -> str:
        with self._opened(key) as response:
            return hashlib.file_digest(response, "sha256").hexdigest()


def split(uri: str) -> tuple[str, str]:
    """Split s3://bucket/key into bucket and key; the key may be empty."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise StorageError(f"{uri!r}: expected s3://bucket/key, got no bucket")
    return bucket, key


def make_bucket(name: str, settings: S3Settings) -> None:
    """Make a bucket if there is none, and check that it accepts an object, since a full store may make a bucket too.

    Raises
    ------
    StorageError
        the store refuses, or does not answer
    """
    client = connect(settings)
    with errors(f"s3://{name}"):
        if not client.bucket_exists(name):
            client.make_bucket(name)
        client.put_object(name, _PROBE, BytesIO(b"offers"), 6)
        client.remove_object(name, _PROBE)


def connect(settings: S3Settings) -> Minio:
    """Build a minio client that gives up within seconds; raises StorageError for an invalid endpoint.

    It signs with the settings' keys, or with those of their role, which it gets when it needs them. Without either it
    sends anonymous requests, which public buckets allow.
    """
    if not settings.endpoint:
        raise StorageError("OFFERS_S3_ENDPOINT: expected http://host:9000 or https://host, but it is not set")
    try:
        return Minio(
            settings.endpoint,
            credentials=credentials(settings),
            secure=settings.secure,
            region=settings.region or None,
            http_client=Pool(settings.secure),
        )
    except ValueError as error:
        raise StorageError(
            f"OFFERS_S3_ENDPOINT: expected http://host:9000 or https://host, got {settings.endpoint!r} ({error})"
        ) from None


@contextmanager
def errors(where: str) -> Iterator[None]:
    """Turn the minio client's errors into a StorageError of one sentence that begins with `where`."""
    passes = False
    try:
        yield
    except S3Error as error:
        passes = error.code in _PASSING
        reason = _REASONS.get(str(error.code), f"the object store says {error.code}: {error.message}")
    except PoolError as error:
        endpoint = f"{getattr(error.pool, 'host', '')}:{getattr(error.pool, 'port', '')}"
        reason, passes = f"no answer from {endpoint} ({cause(error)}); check OFFERS_S3_ENDPOINT", True
    except HTTPError as error:
        reason, passes = f"the transfer was cut short ({error}); run again", True
    except (MinioException, ParseError) as error:
        reason = f"expected the answer of an S3 server ({error}); check OFFERS_S3_ENDPOINT"
    except ValueError as error:
        reason = str(error)
    else:
        return
    raise StorageError(f"{where}: {reason}", passes) from None
