"""A download that continues where an earlier try stopped, and is skipped where the file has not changed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from offers.errors import SourceError

ByteProgress = Callable[[int, int | None], None]
"""Called with bytes done, and bytes in total or None."""


@dataclass(frozen=True)
class Reply:
    """An opened remote file: bytes from `offset` on, size of the whole file where known, and its version."""

    chunks: Iterator[bytes]
    offset: int
    total: int | None
    version: str


class RemoteFile(Protocol):
    """A file on another machine. Both members raise SourceError where the network or the server fails."""

    @property
    def shown(self) -> str:
        """The file's name in messages, without user, password or signature."""
        ...

    def open(self, offset: int, version: str) -> AbstractContextManager[Reply]:
        """Open the file from `offset` on if it still has that version, else from the start."""
        ...


def download(
    remote: RemoteFile, part: Path, own_version: str, checked: bool, progress: ByteProgress | None
) -> str | None:
    """Download to `part`, and continue where an earlier try stopped.

    Parameters
    ----------
    own_version : version of the copy that exists already; empty where there is none
    checked : whether the caller knows the checksum; without one, only a version makes it safe to continue

    Returns
    -------
    str or None
        version of the file, empty where the server names none; None where `own_version` is still current

    Raises
    ------
    SourceError
        the network or the server fails; what has arrived stays in `part` for the next try
    OSError
        `part` can't be written
    """
    note = part.with_suffix(".version")
    version = note.read_text() if note.is_file() else ""
    offset = part.stat().st_size if part.is_file() and (version or checked) else 0
    with remote.open(offset, version) as reply:
        if own_version and reply.version == own_version:
            return None
        with part.open("ab" if reply.offset else "wb") as file:
            note.write_text(reply.version)
            n_bytes = _save(reply, file, progress)
    if reply.total is not None and n_bytes != reply.total:
        reason = f"cut short at {n_bytes} of {reply.total} bytes; run again to go on from there"
        raise SourceError(f"{remote.shown}: {reason}", passes=True)
    return reply.version


def _save(reply: Reply, file: BinaryIO, progress: ByteProgress | None) -> int:
    n_bytes = reply.offset
    for chunk in reply.chunks:
        n_bytes += file.write(chunk)
        if progress:
            progress(n_bytes, reply.total)
    return n_bytes
