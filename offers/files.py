"""Files on this machine: the files that a pipeline's steps hand on, and sentences for errors of the disk."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel

from offers.errors import OffersError, StorageError

if TYPE_CHECKING:
    import pandas as pd

Model = TypeVar("Model", bound=BaseModel)

_MAKE_ROOM = "make room and run again; earlier results are whole"
FULL = f"the disk is full; {_MAKE_ROOM}"
"""What is said where there is no space left."""
_REASONS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: f"the disk quota is used up; {_MAKE_ROOM}",
    errno.EACCES: "no permission; check who owns it",
    errno.EPERM: "no permission; check who owns it",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOENT: "there is no such file or directory",
    errno.ENOTDIR: "a part of this path is a file, not a directory; correct it",
    errno.EEXIST: "is there already; name another file, or remove it",
    errno.EISDIR: "expected a file, got a directory; name the file in it",
    errno.ENOTEMPTY: "is there and not empty; choose another directory",
}


def save(directory: Path, name: str, content: "BaseModel | pd.DataFrame") -> None:
    """Write a record as JSON, or a table as Parquet, into a directory, which is made if it does not exist.

    Raises
    ------
    StorageError
        the disk is full, or the directory can't be written
    """
    path = directory / name
    with os_errors(path):
        directory.mkdir(parents=True, exist_ok=True)
        if isinstance(content, BaseModel):
            path.write_text(content.model_dump_json(indent=1) + "\n", "utf-8")
        else:
            content.to_parquet(path, index=False)


def new_text(path: Path, text: str) -> None:
    """Write a text file; raises StorageError if a file of that name exists already."""
    with os_errors(path), path.open("x", encoding="utf-8") as file:
        file.write(text)


def read(directory: Path, name: str, kind: type[Model]) -> Model:
    """Read a record that `save` wrote."""
    return kind.model_validate_json((directory / name).read_text("utf-8"))


@contextmanager
def os_errors(where: Path, kind: type[OffersError] = StorageError) -> Iterator[None]:
    """Turn an OSError into one sentence of `kind` that names the file, or else `where`, and says what to do."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise kind(f"{error.filename2 or error.filename or where}: {reason}") from None


def path_of(uri: str) -> Path:
    """Turn a path or a file:// URI into a path."""
    if not uri.startswith("file://"):
        return Path(uri)
    return Path(unquote(uri.removeprefix("file://").removeprefix("localhost")))


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name, and rename it once it is on the disk, so that it is never seen half-written."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write(unfinished)
        sync(unfinished)
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync(path.parent)
