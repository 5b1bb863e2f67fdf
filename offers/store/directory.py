"""A directory as object store. Stored directories are whole or absent: they have a manifest.json and appear at once."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from offers.errors import StorageError
from offers.files import os_errors, sha256_of, sync
from offers.wording import some

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class DirectoryStore:
    """Objects as files under `root`."""

    root: Path

    @property
    def uri(self) -> str:
        return str(self.root)

    def put_directory(self, local: Path, key: str) -> None:
        files, target = whole(local), self._path(key)
        with os_errors(target):
            if not target.exists() and _copied(files, target):
                return
            refuse_difference(digests(files), digests(whole(target)), str(target))

    def get_directory(self, key: str, local: Path) -> None:
        files = whole(self._path(key))
        with os_errors(local), new_directory(local) as directory:
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

    def create(self, key: str, content: bytes) -> bool:
        target = self._path(key)
        with os_errors(target), _temporary(target, content) as temporary:
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            sync(target.parent)
            return True

    def write_bytes(self, key: str, content: bytes) -> None:
        target = self._path(key)
        with os_errors(target), _temporary(target, content) as temporary:
            os.replace(temporary, target)
            sync(target.parent)

    def _path(self, key: str) -> Path:
        return self.root / checked(key)


def checked(key: str) -> str:
    """Return the key; raises StorageError if a part of it leads out of the store or names a temporary file."""
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key or _is_temporary(key):
        raise StorageError(f"key {key!r}: expected names joined by '/', without '.', '..' or a leading '/'")
    return key


def whole(folder: Path) -> dict[str, Path]:
    """List the files of a whole directory by name; raises StorageError if it is absent or has no manifest."""
    with os_errors(folder):
        files = _files(folder)
    if MANIFEST not in files:
        raise not_whole(str(folder), len(files))
    return files


def not_whole(where: str, count: int) -> StorageError:
    """Build the error for a directory with `count` files and no manifest."""
    return StorageError(f"{where}: expected a whole directory, with {MANIFEST}; found {count} files without it")


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Compute the SHA-256 of each file, by name."""
    return {name: sha256_of(path) for name, path in files.items()}


def refuse_difference(ours: Mapping[str, str], theirs: Mapping[str, str], where: str) -> None:
    """Raise a StorageError if the existing files (`theirs`) differ from those to be stored (`ours`)."""
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if differing:
        raise StorageError(f"{where}: is there with other content ({some(differing)}), and is never overwritten")


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Make a temporary sibling of `target`, which gets that name if the block succeeds.

    Raises
    ------
    OSError
        ENOTEMPTY or EEXIST if `target` exists and is not empty
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(target)
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copied(files: Mapping[str, Path], target: Path) -> bool:
    """Copy files to a new directory; False if another process made that directory first."""
    try:
        with new_directory(target) as directory:
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


def _files(folder: Path) -> dict[str, Path]:
    paths = []
    for parent, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if not _is_temporary(name)]
        paths += [Path(parent, name) for name in names if not _is_temporary(name)]
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _fail(error: OSError) -> None:
    raise error


@contextmanager
def _temporary(target: Path, content: bytes) -> Iterator[Path]:
    """Write a temporary sibling of `target` with this content to the disk; it is removed after the block."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(target)
    try:
        temporary.write_bytes(content)
        sync(temporary)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _is_temporary(key: str) -> bool:
    return any(part.startswith(".") and part.endswith(".part") for part in PurePosixPath(key).parts)


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid4().hex}.part")
