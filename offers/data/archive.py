"""Unpacks the member of a zip that holds the rows; zips may contain zips."""

import errno
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from offers.errors import SourceError
from offers.wording import some

LARGEST_MEMBER = 4 << 30


def is_zip(path: Path) -> bool:
    """Whether a file begins like a zip, even if it is damaged."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def unpack(archive: Path, target: Path, member: str | None, origin: str) -> None:
    """Write one member of a zip to `target`.

    Parameters
    ----------
    member : path inside the zip; it may continue inside an inner zip, as in `inner.zip/folder/rows.csv`
    origin : the zip's name in messages

    Raises
    ------
    SourceError
        there is no such member, the zip is broken or has a password, or the member has more than LARGEST_MEMBER bytes
    OSError
        `archive` can't be read, or `target` can't be written
    """
    try:
        with archive.open("rb") as packed, target.open("wb") as unpacked:
            _copy_member(packed, member or "", unpacked, origin)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        # EINVAL means that a damaged zip made the reader seek to before its start. Other OSErrors are the disk's.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise SourceError(f"{origin}: expected a whole zip file, but it is broken or no zip ({error})") from None
    except (NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{origin}: expected a zip file without password ({error})") from None


def _copy_member(packed: BinaryIO, member: str, target: BinaryIO, origin: str) -> None:
    with zipfile.ZipFile(packed) as archive:
        name = _on_the_way(archive.namelist(), member, origin)
        if (size := archive.getinfo(name).file_size) > LARGEST_MEMBER:
            raise SourceError(f"{origin}: {name} in it unpacks to {size} bytes; expected at most {LARGEST_MEMBER}")
        with archive.open(name) as content:
            if name == member:
                shutil.copyfileobj(content, target)
                return
            with tempfile.TemporaryFile(dir=Path(target.name).parent) as nested:
                shutil.copyfileobj(content, nested)
                _copy_member(nested, member.removeprefix(f"{name}/"), target, f"{origin}/{name}")


def _on_the_way(names: Sequence[str], member: str, origin: str) -> str:
    """Find the name in a zip that is `member`, or that of an inner zip which may contain it."""
    files = [name for name in names if not name.endswith("/")]
    for name in files:
        if member == name or member.startswith(f"{name}/"):
            return name
    expected = f"expected {member}" if member else "it is a zip, so source.member of the contract must name a file"
    raise SourceError(f"{origin}: {expected} in it; it holds {some(files)}")
