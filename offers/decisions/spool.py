"""The spool: files on this machine to which a service appends its events before it sends the answer.

A written line survives its process, however that ends. With `durability: power` the caller also waits until the line is
on the disk; callers that wait at the same time share one flush.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from offers.decisions.segment import HEAD_BYTES, OPEN, SEALED, adopt, head, seal
from offers.errors import OffersError, StorageError
from offers.files import os_errors, sync

Durability = Literal["process", "power"]
_LOOK_SECONDS = 0.5
# macOS has no fdatasync.
_datasync = getattr(os, "fdatasync", os.fsync)


class SpoolFull(OffersError):  # noqa: N818
    """The spool has reached its limit, or its disk is full. Nothing was written."""


@dataclass(frozen=True)
class SpoolLimits:
    """When a segment is sealed, and how much may wait for the shipper.

    Attributes
    ----------
    seal_bytes, seal_seconds : size and age at which a segment is sealed; the shipper takes some ten times
        `seal_bytes` of memory beside what it always takes
    most_bytes : most bytes of all segments together; on a cluster less than the volume's limit, beyond which the pod is
        evicted
    durability : with "process" lines survive a killed process, with "power" also a power failure
    """

    seal_bytes: int = 4 * 2**20
    seal_seconds: float = 5.0
    most_bytes: int = 512 * 2**20
    durability: Durability = "process"


class Spool:
    """Appends lines to segments in a directory. As an asynchronous context it also seals segments by their age.

    Parameters
    ----------
    directory : made if it does not exist; several writers may share it
    writer : names the process and its start, such as POD-BOOT; letters, digits, '.' and '-'
    limits : sizes, ages and durability

    Attributes
    ----------
    cut : number of bytes of torn lines, left by writers that have ended, that were cut off at the start

    Raises
    ------
    StorageError
        the directory can't be made or read
    """

    def __init__(self, directory: Path, writer: str, limits: SpoolLimits) -> None:
        self.directory, self.writer, self.limits = directory, writer, limits
        with os_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            self.cut = adopt(directory)
        self._lock, self._syncing = threading.Lock(), asyncio.Lock()
        self._path, self._descriptor, self._number = directory, -1, 0
        self._size, self._begun = 0, 0.0
        self._written, self._synced = 0, 0
        self.waiting = self._counted()

    def append(self, payload: bytes) -> None:
        """Write one line, whole or not at all. May be called from any thread.

        Raises
        ------
        SpoolFull
            there is no room for it
        StorageError
            the disk refuses it for another reason
        """
        # The payload is handed on as it is: a copy of a large one would cost as much as its write.
        line, size = (head(payload), payload, b"\n"), HEAD_BYTES + len(payload) + 1
        with self._lock:
            if self.waiting + size > self.limits.most_bytes:
                raise SpoolFull(
                    f"{self.directory}: {self.waiting} bytes wait for the shipper, and {self.limits.most_bytes} may"
                )
            if self._descriptor < 0:
                self._open()
            self._write(line, size)
            if self._size >= self.limits.seal_bytes:
                self._seal()

    async def durable(self) -> None:
        """Wait until everything appended so far is on the disk, if the limits ask for this durability."""
        goal = self._written
        if self.limits.durability == "process":
            return
        while self._synced < goal:
            async with self._syncing:
                if self._synced < goal:
                    await asyncio.to_thread(self._sync)

    def seal(self) -> None:
        """Seal the present segment, so that later lines go into a new one."""
        with self._lock:
            if self._descriptor >= 0:
                self._seal()

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        self.seal()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._descriptor >= 0 and time.monotonic() - self._begun >= self.limits.seal_seconds:
                await asyncio.to_thread(self.seal)
            count = await asyncio.to_thread(self._counted)
            with self._lock:
                self.waiting = count

    def _open(self) -> None:
        path = self.directory / f"{self.writer}-{self._number:08}{OPEN}"
        temporary = path.with_suffix(".tmp")
        with _refusals(path):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            # The file is locked before it gets its name, so nobody takes it for the segment of a dead writer.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            temporary.rename(path)
            if self.limits.durability == "power":
                sync(self.directory)
        self._path, self._descriptor = path, descriptor
        self._size, self._begun = 0, time.monotonic()
        self._number += 1

    def _write(self, line: tuple[bytes, ...], size: int) -> None:
        try:
            written = os.writev(self._descriptor, line)
            if written < size:
                self._write_rest(b"".join(line), written)
        except OSError:
            with _refusals(self._path):
                os.ftruncate(self._descriptor, self._size)
                raise
        self._size += size
        self._written += size
        self.waiting += size

    def _write_rest(self, line: bytes, written: int) -> None:
        """Write what the disk has not taken at once; where it takes nothing more, it says why."""
        while written < len(line):
            written += os.write(self._descriptor, memoryview(line)[written:])

    def _seal(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        with _refusals(self._path):
            if self.limits.durability == "power":
                _datasync(descriptor)
                self._synced = self._written
            seal(self._path, descriptor)

    def _sync(self) -> None:
        with self._lock:
            if self._descriptor < 0:
                return
            descriptor, reached = os.dup(self._descriptor), self._written
        try:
            _datasync(descriptor)
        finally:
            os.close(descriptor)
        self._synced = max(self._synced, reached)

    def _counted(self) -> int:
        total = 0
        for entry in os.scandir(self.directory):
            if entry.name.endswith((OPEN, SEALED)):
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat().st_size
        return total


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn errors of the disk into `SpoolFull`, or into `StorageError` where the disk is not full."""
    try:
        with os_errors(path):
            yield
    except StorageError as error:
        cause = error.__context__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpoolFull(str(error)) from None
        raise
