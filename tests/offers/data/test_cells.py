"""Cells to values: zones, forms of dates and numbers, words, and whole numbers to the last digit."""

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from offers.contract import contract as contracts
from offers.contract.column import Column
from offers.contract.sections import CsvFormat
from offers.data import cells, table_file
from offers.data.validation import broken_contract, validate

CASES = Path(__file__).parent / "cases"


def read(texts: list[Any], form: dict[str, Any] | None = None, **keys: Any) -> list[Any]:
    """Read cells; a wrong one is shown as 'wrong'."""
    column = Column.model_validate({"name": "x", "role": "customer", **keys})
    kind = "string[pyarrow]" if all(isinstance(text, str | None) for text in texts) else object
    got = cells.read(pd.Series(texts, dtype=kind), column, CsvFormat.model_validate(form or {}))
    values = [None if pd.isna(value) else value for value in got.values]
    return ["wrong" if row in got.wrong else value for row, value in enumerate(values)]


def checked(name: str, file: str = "") -> Any:
    contract = contracts.load(str(CASES / f"{name}.yaml"))
    path = CASES / (file or f"{name}.csv")
    return contract, validate(table_file.read(path, contract, path.name), contract)


@pytest.mark.parametrize(
    ("form", "texts", "values"),
    [
        (
            {"thousands": ","},
            ["1,234.5", "1,234,567", "12", "1,23", "1234,567"],
            [1234.5, 1234567, 12, "wrong", "wrong"],
        ),
        ({"thousands": ".", "decimal": ","}, ["1.234,5", "-1.000", "0,5"], [1234.5, -1000, 0.5]),
        ({"thousands": " "}, ["1 234", "12 34"], [1234, "wrong"]),
        ({"thousands": "'"}, ["1'234'567.25"], [1234567.25]),
        ({"missing": ["NA", "n/a", ""]}, ["NA", "n/a", "", "7"], [None, None, None, 7]),
        (
            {},
            [" 12 ", "+3", "1e3", ".5", "5.", "1_000", "0x1F", "nan", "1e999", "٣"],
            [12, 3, 1000, 0.5, 5, *["wrong"] * 5],
        ),
    ],
)
def test_numbers_in_text(form: dict[str, Any], texts: list[Any], values: list[Any]) -> None:
    assert read(texts, form, type="number") == values


def test_booleans_in_every_word_of_the_list() -> None:
    texts = ["true", "T", "yes", "Y", "on", "1", "FALSE", "f", "No", "n", "off", "0", "2", "ja"]
    assert read(texts, type="boolean") == [1.0] * 6 + [0.0] * 6 + ["wrong"] * 2
    words = {"true_values": ["Ja"], "false_values": ["Nein"]}
    assert read(["ja", "NEIN", "yes", "1"], type="boolean", **words) == [1.0, 0.0, 1.0, 1.0]
    assert read([True, 0, 1.0, "off", None], type="boolean") == [1.0, 0.0, 1.0, 0.0, None]


def test_a_boolean_is_no_number_and_a_word_where_a_category_has_one() -> None:
    assert read([True, 1], type="integer") == ["wrong", 1]
    assert read([True, False, 3, 2.5], type="category", values=["yes", "no", "3", "2.5"]) == ["yes", "no", "3", "2.5"]
    assert read([b"yes"], type="category", values=["yes", "no"]) == ["yes"]


def test_dates_with_zones_are_compared_in_utc() -> None:
    keys = {"role": "time", "type": "date"}
    first, second = read(["2024-10-27T02:30:00+02:00", "2024-10-27T02:10:00+01:00"], **keys)
    assert (first, second) == (pd.Timestamp("2024-10-27 00:30"), pd.Timestamp("2024-10-27 01:10"))
    assert read(["2024-05-31T10:00:00Z", "2024-05-31 12:00 +0200"], **keys) == [pd.Timestamp("2024-05-31 10:00")] * 2
    assert read([dt.datetime(2024, 5, 31, 10, tzinfo=dt.UTC)], **keys) == [pd.Timestamp("2024-05-31 10:00")]
    assert read(["2024-05-31T10:00:00Z", "2024-05-31", "2024-06-01T00:00Z"], **keys)[1] == "wrong"


def test_dates_in_a_form_of_their_own() -> None:
    keys = {"role": "time", "type": "date", "format": "%d.%m.%Y", "missing": ["00.00.0000"], "nullable": True}
    day = pd.Timestamp("2024-05-31")
    assert read(["31.05.2024", "2024-05-31", "32.01.2024", "00.00.0000"], **keys) == [day, "wrong", "wrong", None]
    assert read([dt.date(2024, 5, 31)], **keys) == [day]


def test_the_day_that_stands_for_never_may_be_declared_missing() -> None:
    keys = {"role": "time", "type": "date", "missing": ["9999-12-31"]}
    days = [dt.datetime(9999, 12, 31), dt.datetime(2024, 5, 31)]
    assert read(days, **keys) == [None, pd.Timestamp("2024-05-31")]
    assert read(["9999-12-31"], role="time", type="date") == ["wrong"]


BIG = [2**53 - 1, 2**53 + 1, 2**63 - 1, -(2**63), 2**63]


@pytest.mark.parametrize("kind", [str, int])
def test_whole_numbers_are_exact_where_no_model_sees_them(kind: Any) -> None:
    assert read([*map(kind, BIG)], role="identifier", type="integer") == [*BIG[:4], "wrong"]


def test_an_identifier_beside_an_empty_cell_of_parquet_is_exact(tmp_path: Path) -> None:
    contract = contracts.load(str(CASES / "wrong-count.yaml"))
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"x": pa.array([2**53 + 1, 2**53, None]), "y": ["1", "0", "1"]}), path)
    assert table_file.read(path, contract, "rows")["x"].tolist() == [2**53 + 1, 2**53, pd.NA]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "int-overflow",
            "100 rows break contract int-overflow: column 'big', row 1: expected at most 9007199254740991,"
            " got 12345678901234567890 (100 rows)",
        ),
        (
            "float32",
            "30 rows break contract float32: column 'x', row 1: expected at most 3.40282e+38,"
            " got 1.7976931348623157e308 (30 rows)",
        ),
        ("wrong-count", "1 row breaks contract wrong-count: column 'x', row 4: expected a number, got ' '. Mend"),
    ],
)
def test_rows_that_break_are_counted_and_named(name: str, sentence: str) -> None:
    contract, validation = checked(name)
    assert str(broken_contract(contract.name, validation.violations)).startswith(sentence)


def test_the_hour_that_autumn_repeats_is_in_order() -> None:
    _, validation = checked("dst", "dst.parquet")
    assert validation.passed
    assert validation.frame["x"].is_monotonic_increasing


def test_a_category_that_never_occurs_is_noted() -> None:
    _, validation = checked("recall-zero")
    assert validation.passed
    assert validation.notes == ()
    contract = contracts.parse((CASES / "recall-zero.yaml").read_text().replace("[f, m]", "[f, m, d]"))
    rows = table_file.read(CASES / "recall-zero.csv", contract, "rows")
    assert validate(rows, contract).notes == ("column 'g': 'd' is declared and never occurs",)
