"""An object of an S3 bucket as a file to download."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from minio.error import S3Error
from urllib3.response import BaseHTTPResponse

from offers.data.download import Reply
from offers.errors import SourceError, StorageError
from offers.settings import S3Settings
from offers.store.s3 import connect, errors, split


@dataclass(frozen=True)
class S3File:
    """The object at the URI `shown`, to download."""

    shown: str
    settings: S3Settings

    @contextmanager
    def open(self, offset: int, version: str) -> Iterator[Reply]:
        try:
            with errors(self.shown), closing(self._get(offset, version)) as response:
                start = offset if response.status == HTTPStatus.PARTIAL_CONTENT else 0
                length = response.headers.get("Content-Length")
                total = start + int(length) if length else None
                yield Reply(response.stream(), start, total, response.headers.get("ETag", ""))
        except StorageError as error:
            raise SourceError(str(error), error.passes) from None

    def _get(self, offset: int, version: str) -> BaseHTTPResponse:
        bucket, key = split(self.shown)
        if not key:
            raise StorageError(f"{self.shown!r}: expected s3://bucket/key, got no key")
        client = connect(self.settings)
        condition: dict[str, str | list[str] | tuple[str]] = {"If-Match": version} if offset and version else {}
        try:
            return client.get_object(bucket, key, offset, request_headers=condition)
        except S3Error as error:
            if not offset or error.code not in ("PreconditionFailed", "InvalidRange"):
                raise
            return client.get_object(bucket, key)
