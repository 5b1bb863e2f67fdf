"""CSV and Parquet files as raw frames; every mistake in a file is one sentence."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from offers.data import table_file
from offers.errors import DataError, SourceError
from tests.support.small import LARGE, SMALL, contract, write


def read(path: str, **source: Any) -> pd.DataFrame:
    return table_file.read(Path(path), contract(**source), path)


def test_cells_are_the_text_that_was_written(tmp_path: Path) -> None:
    path = write(tmp_path, 'age;job;y\r\n030;"a;b";no\r\n;"";yes\r\nNA;"two\nlines ""quoted""";null\r\n')
    got = read(path)
    assert got.to_dict("list") == {
        "age": ["030", None, "NA"],
        "job": ["a;b", "", 'two\nlines "quoted"'],
        "y": ["no", "yes", "null"],
    }
    assert {str(dtype) for dtype in got.dtypes} == {"string"}
    assert got.dtypes["age"].storage == "pyarrow"


def test_columns_come_in_the_contracts_order(tmp_path: Path) -> None:
    got = read(write(tmp_path, "y;age;job\nno;30;clerk\n"))
    assert got.to_dict("list") == {"age": ["30"], "job": ["clerk"], "y": ["no"]}


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("\ufeffage;job;y\n30;Ärztin;no\n".encode(), {"separator": ";"}),
        ("\n\nage;job;y\n\n30;Ärztin;no".encode(), {"separator": ";", "encoding": "UTF-8"}),
        ("age;job;y\n30;Ärztin;no\n".encode("cp1252"), {"separator": ";", "encoding": "cp1252"}),
        ("age\tjob\ty\n30\tÄrztin\tno\n".encode("utf-16"), {"separator": "\t", "encoding": "utf-16"}),
        ("age|'job'|y\n30|'Ärztin'|no\n".encode(), {"separator": "|", "quote": "'"}),
    ],
)
def test_the_contract_says_how_a_file_is_written(tmp_path: Path, content: bytes, form: dict[str, str]) -> None:
    got = read(write(tmp_path, content), format=form)
    assert got.to_dict("list") == {"age": ["30"], "job": ["Ärztin"], "y": ["no"]}


def test_a_last_cell_of_two_lines_is_whole(tmp_path: Path) -> None:
    got = read(write(tmp_path, 'age;job;y\n30;clerk;"n\no"\n'))
    assert got["y"].tolist() == ["n\no"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"age;job;y\n", "expected rows, got column names only"),
        (b"age;job\n1;2\n", r"expected the 3 columns of contract small; missing: y$"),
        (b"Age ;jobs;y;z\n1;2;3;4\n", r"missing: age \(is it 'Age '\?\), job \(is it 'jobs'\?\); not in the .*z$"),
        (b"age;job;y;age\n1;2;3;4\n", "there twice: age$"),
        (b"age;job;y\n1;2;3\n\n4;5\n", r"expected 3 cells in each row, got 2 in row 3 \(the header is .*: '4;5'"),
        (LARGE + b"1;2;3;4\n" + LARGE[10:], "expected 3 cells in each row, got 4 in row 50002 "),
        (b'age;job;y\n1;2;"3\n4;5;6\n', 'the " that opens the last cell is never closed'),
        (b'age;job;y\n1;2;"3\n4;5;6', 'the " that opens the last cell is never closed'),
        (b'age;job;y\n1;2;"3\n' + LARGE * 8, "it can't be read .*is a \" never closed?"),
    ],
)
def test_rows_that_break_the_form(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=f"^{re.escape(path)}: .*{message}"):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected rows, but the file is empty"),
        (b"age,job,y\n1,2,3\n", r"separated by ';' \(contract key source\.format\.separator\), .* seems to be ','"),
        (b'"age"\t"job"\t"y"\n', r"it seems to be '\\t'"),
        (b"<!doctype html>\n<p>Log in", "expected CSV, Parquet or xlsx, but this is a web page"),
        (b"\n\n", "the first line is ''"),
        (
            b"age;job;y\n1;2;3\n4;caf\xe9;5\n",
            r"expected utf-8 \(contract key source\.format\.encoding\), but line 3 is not",
        ),
        (b"age;jo\xe9;y\n1;2;3\n", "line 1 is not"),
        ("age;job;y\n1;2;3\n".encode("utf-16"), "line 1 is not"),
        (LARGE + b"1;\xff;3\n", "line 50002 is not"),
    ],
)
def test_files_of_another_form(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SourceError, match=f"^{re.escape(path)}: .*{message}"):
        read(path)


def test_an_encoding_that_the_file_has_not(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"expected utf-16 \(contract key .*\), but line 3 is not"):
        read(write(tmp_path, SMALL), format={"separator": ";", "encoding": "utf-16"})


@pytest.mark.parametrize("encoding", ["utf-9", "hex"])
def test_an_encoding_that_is_none(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(SourceError, match=rf"contract key source\.format\.encoding: .*{encoding}"):
        read(write(tmp_path, SMALL), format={"separator": ";", "encoding": encoding})


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = pd.DataFrame({"y": [True, False], "age": [30, 41], "job": ["clerk", None]}, index=[7, 8])
    rows.to_parquet(path)
    frame = read(str(path))
    assert list(frame.columns) == ["age", "job", "y"]
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", "object", "bool"]
    assert frame["age"].tolist() == [30, 41]
    assert list(frame.index) == [0, 1]
    rows.set_index("age").to_parquet(path)
    assert read(str(path))["age"].tolist() == [30, 41]


def test_a_parquet_file_of_other_columns_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"age": [30], "job": ["clerk"]}).to_parquet(path)
    with pytest.raises(DataError, match=r"rows\.parquet: .* missing: y"):
        read(str(path))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"rows\.parquet: expected a Parquet file, but it can't be read"):
        read(str(path))
