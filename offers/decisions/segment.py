"""Segments of the spool: files whose lines carry their length and checksum, so that damage is detected.

A segment is named `WRITER-NUMBER.open` while its writer appends to it and holds its lock, and `WRITER-NUMBER.sealed`
once no line will follow. If nobody holds the lock of an open segment, its writer has ended, and any process may seal
it.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

OPEN, SEALED = ".open", ".sealed"
_HEAD = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{8}) ")
HEAD_BYTES = 18
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,127})-(\d{8})\.sealed")


@dataclass(frozen=True)
class Damage:
    """A part of a segment that is not a whole line: its offset, its bytes, and the reason."""

    offset: int
    content: bytes
    reason: str


@dataclass(frozen=True)
class Sealed:
    """A complete segment, with the process that wrote it and its number among that process's segments."""

    path: Path
    writer: str
    number: int


def head(payload: bytes) -> bytes:
    """Write what stands before a payload: its length and CRC-32, in hex."""
    return b"%08x %08x " % (len(payload), crc32(payload))


def framed(payload: bytes) -> bytes:
    """Frame a payload without line breaks as one line."""
    return b"%b%b\n" % (head(payload), payload)


def lines(content: bytes) -> Iterator[bytes | Damage]:
    """Yield the payloads of a segment, and `Damage` for each unreadable line; reading continues at the next line."""
    offset = 0
    while offset < len(content):
        payload = _payload(content, offset)
        if payload is not None:
            yield payload
            offset += HEAD_BYTES + len(payload) + 1
            continue
        end = content.find(b"\n", offset) + 1 or len(content)
        reason = "torn" if content[end - 1 : end] != b"\n" else "length or checksum does not fit"
        yield Damage(offset, content[offset:end], reason)
        offset = end


def sealed(directory: Path) -> list[Sealed]:
    """List the complete segments of a spool; those of one writer are in the order in which they were written."""
    names = (_NAME.fullmatch(path.name) for path in sorted(directory.glob(f"*{SEALED}")))
    return [Sealed(directory / name[0], name[1], int(name[2])) for name in names if name]


def adopt(directory: Path) -> int:
    """Seal the segments whose writers have ended, cut off torn last lines, and return the number of bytes cut."""
    return sum(_adopted(path) for path in sorted(directory.glob(f"*{OPEN}")))


def occupied(directory: Path) -> bool:
    """Whether a segment is still being written."""
    return any(directory.glob(f"*{OPEN}"))


def seal(path: Path, descriptor: int) -> None:
    """Give an open segment its final name and release its lock; an empty one is removed."""
    try:
        if os.fstat(descriptor).st_size:
            path.rename(path.with_suffix(SEALED))
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def _payload(content: bytes, offset: int) -> bytes | None:
    head = _HEAD.match(content, offset)
    if head is None:
        return None
    begin = offset + HEAD_BYTES
    end = begin + int(head[1], 16)
    payload = content[begin:end]
    whole = content[end : end + 1] == b"\n" and crc32(payload) == int(head[2], 16)
    return payload if whole else None


def _adopted(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor))
    except (BlockingIOError, FileNotFoundError):
        there = False
    if not there:
        os.close(descriptor)
        return 0
    cut = _torn(path.read_bytes())
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - cut)
    seal(path, descriptor)
    return cut


def _torn(content: bytes) -> int:
    """Count the bytes at the end that are only part of a line, because the writer was stopped in the middle of it."""
    last = None
    for last in lines(content):  # noqa: B007
        pass
    return len(last.content) if isinstance(last, Damage) and last.reason == "torn" else 0
