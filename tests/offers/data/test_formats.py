"""Kinds of files: those that are read, packed or not, and those that are refused by name."""

import gzip
import pickle
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest

from offers.data import formats, table_file
from offers.errors import DataError, SourceError
from tests.support.small import SMALL, contract, write

ROWS = {"age": ["30", "41"], "job": ["clerk", "retired"], "y": ["no", "yes"]}


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: pa.compress(content, "zstd", asbytes=True)])
@pytest.mark.parametrize("packed", [1, 2])
def test_packed_files_are_read(tmp_path: Path, pack: object, packed: int) -> None:
    content = SMALL
    for _ in range(packed):
        content = pack(content)  # type: ignore[operator]
    path = write(tmp_path, content, "rows.bin")
    assert table_file.read(Path(path), contract(), path).to_dict("list") == ROWS


def test_a_packed_parquet_file_is_read(tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    path = write(tmp_path, gzip.compress((tmp_path / "rows.parquet").read_bytes()), "rows.parquet.gz")
    assert table_file.read(Path(path), contract(), path).to_dict("list") == ROWS


def test_a_broken_or_endless_packed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gzip.compress(SMALL * 1000)
    path = write(tmp_path, whole[:-20], "rows.csv.gz")
    with pytest.raises(SourceError, match=r"rows\.csv\.gz: expected a whole gzip file, but it is broken"):
        table_file.read(Path(path), contract(), path)
    monkeypatch.setattr(formats, "LARGEST_UNPACKED", 1000)
    path = write(tmp_path, whole, "rows.csv.gz")
    with pytest.raises(SourceError, match="unpacks to more than 1000 bytes"):
        table_file.read(Path(path), contract(), path)


def workbook(folder: Path) -> Path:
    book = openpyxl.Workbook()
    notes, rows = book.active, book.create_sheet("Rows")
    assert notes is not None
    notes.append(["nothing", "here"])
    for row in (["age", "job", "y", None], [30, "clerk", "no"], [], [41.0, None, True]):
        rows.append(row)
    book.save(folder / "rows.xlsx")
    return folder / "rows.xlsx"


def test_a_workbook_keeps_the_types_of_its_cells(tmp_path: Path) -> None:
    path = workbook(tmp_path)
    got = table_file.read(path, contract(format={"sheet": "Rows"}), "rows")
    assert got.to_dict("list") == {"age": [30, 41], "job": ["clerk", None], "y": ["no", True]}
    with pytest.raises(DataError, match=r"rows: expected the 3 columns .* missing: age"):
        table_file.read(path, contract(), "rows")
    with pytest.raises(SourceError, match="expected sheet 'Absent'"):
        table_file.read(path, contract(format={"sheet": "Absent"}), "rows")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), r"an Excel file of before 2007 \(xls\)"),
        (pickle.dumps(ROWS), "a Python pickle"),
        (b"ARROW1\0\0", r"an Arrow \(Feather\) file"),
        (b"ORC\n\x05\x12", "an ORC file"),
        (b"Obj\x01\x04\x14avro.codec", "an Avro file"),
        (b"SQLite format 3\0", "an SQLite database; name it as sqlite:///PATH"),
        (b'{"age": 30}', "JSON"),
        (b"BZh91AY&SY", "a file packed by bzip2"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, content: bytes, name: str) -> None:
    path = write(tmp_path, content, "rows.dat")
    with pytest.raises(SourceError, match=rf"rows\.dat: expected CSV, Parquet or xlsx, but this is {name}"):
        table_file.read(Path(path), contract(), path)


def test_a_header_that_begins_like_a_magic_number_is_text(tmp_path: Path) -> None:
    path = write(tmp_path, "ORCHID;age;job;y\nx;30;clerk;no\n")
    got = table_file.read(Path(path), contract(format={"separator": ";"}, extra_columns="ignore"), path)
    assert list(got.columns) == ["age", "job", "y"]


def test_a_column_without_name_is_named_as_such_and_can_be_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, ";age;job;y\n0;30;clerk;no\n")
    with pytest.raises(DataError, match=r"not in the contract: a column without name \(number 1\); 'extra_columns"):
        table_file.read(Path(path), contract(), path)
    got = table_file.read(Path(path), contract(extra_columns="ignore"), path)
    assert got.to_dict("list") == {"age": ["30"], "job": ["clerk"], "y": ["no"]}
