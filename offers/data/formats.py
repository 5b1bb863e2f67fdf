"""Recognises files by their first bytes: some are read, some are unpacked first, others are refused by name."""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pyarrow as pa

from offers.errors import SourceError

Kind = Literal["csv", "parquet", "workbook", "gzip", "zstd"]

LARGEST_UNPACKED = 4 << 30
_BLOCK = 1 << 20

_READ: dict[bytes, Kind] = {b"PAR1": "parquet", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_TABLE = "write the table as CSV, Parquet or xlsx"
_REFUSED = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an Excel file of before 2007 (xls)", "save it as xlsx or CSV"),
    b"ARROW1": ("an Arrow (Feather) file", _TABLE),
    b"\xff\xff\xff\xff": ("an Arrow stream", _TABLE),
    b"FEA1": ("a Feather file", _TABLE),
    b"Obj\x01": ("an Avro file", _TABLE),
    b"\x89HDF": ("an HDF5 file", _TABLE),
    b"SQLite format 3\0": ("an SQLite database", "name it as sqlite:///PATH, and give the contract a 'source.query'"),
    b"BZh": ("a file packed by bzip2", "unpack it, or pack it by gzip or zstd"),
    b"\xfd7zXZ\0": ("a file packed by xz", "unpack it, or pack it by gzip or zstd"),
    b"7z\xbc\xaf": ("a 7-Zip archive", "unpack it, or pack it as zip"),
    b"Rar!": ("a RAR archive", "unpack it, or pack it as zip"),
    b"%PDF": ("a PDF document", _TABLE),
    b"$FL2": ("an SPSS file", _TABLE),
    b"<stata_dta>": ("a Stata file", _TABLE),
    # Pickles of protocol 2 and above: they may contain code, which must never run.
    **{b"\x80" + bytes([protocol]): ("a Python pickle", f"it may hold code: {_TABLE}") for protocol in range(2, 6)},
}
_REFUSED_TEXT = {
    b"<!doctype html": ("a web page", "is it a page to log in, or to download from? name the file itself"),
    b"<html": ("a web page", "is it a page to log in, or to download from? name the file itself"),
    b"<?xml": ("XML", _TABLE),
    b"{": ("JSON", _TABLE),
    b"[": ("JSON", _TABLE),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file itself: git lfs pull"),
}


def kind_of(path: Path, origin: str) -> Kind:
    """Recognise the kind of a file that can be read, or unpacked first.

    Raises
    ------
    SourceError
        the file is empty, or of a kind that is not read; the message names the kind, and what to do
    OSError
        the file can't be read
    """
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise SourceError(f"{origin}: expected rows, but the file is empty")
    for magic, kind in _READ.items():
        if start.startswith(magic):
            return kind
    if is_workbook(path):
        return "workbook"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    refusal = next((what for magic, what in _REFUSED.items() if start.startswith(magic)), None)
    if start.startswith(b"ORC") and min(start) < ord("\t"):
        refusal = ("an ORC file", _TABLE)
    if refusal := refusal or next((what for mark, what in _REFUSED_TEXT.items() if text.startswith(mark)), None):
        raise SourceError(f"{origin}: expected CSV, Parquet or xlsx, but this is {refusal[0]}; {refusal[1]}")
    return "csv"


def is_workbook(path: Path) -> bool:
    """Whether a file is an Excel workbook (xlsx). Its first bytes are those of a zip."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK" and "xl/workbook.xml" in zipfile.ZipFile(file).namelist()
    except (zipfile.BadZipFile, ValueError):
        return False


def unpack(packed: Path, kind: Literal["gzip", "zstd"], target: Path, origin: str) -> None:
    """Write the content of a packed file to `target`.

    Raises
    ------
    SourceError
        the file is broken, or its content has more than LARGEST_UNPACKED bytes
    OSError
        `target` can't be written
    """
    with packed.open("rb") as source, target.open("wb") as unpacked:
        try:
            blocks = pa.CompressedInputStream(source, kind)
            _copy(blocks.read, unpacked.write, origin)
        except (pa.ArrowException, zlib.error, EOFError) as error:
            raise SourceError(f"{origin}: expected a whole {kind} file, but it is broken ({_line(error)})") from None
        except OSError as error:
            # Arrow reports a broken stream as an OSError without a number; those with a number are the disk's.
            if error.errno is not None:
                raise
            raise SourceError(f"{origin}: expected a whole {kind} file, but it is broken ({_line(error)})") from None


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], int], origin: str) -> None:
    size = 0
    while block := read(_BLOCK):
        size += len(block)
        if size > LARGEST_UNPACKED:
            raise SourceError(f"{origin}: unpacks to more than {LARGEST_UNPACKED} bytes; expected at most so many")
        write(block)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
