"""Guesses the format of a text file: encoding, separator, quote, decimal mark and thousands mark."""

import codecs
import csv
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from offers.contract.sections import CsvFormat
from offers.data.table_file import SEPARATORS

_LINES = 200
_BLOCK = 1 << 20
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def csv_format(path: Path) -> CsvFormat:
    """Guess the format of a CSV file, except the marks in its numbers, which `number_marks` takes from the cells."""
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        lines = [line for line in islice(file, _LINES) if line.strip()]
    quote = "'" if "'" in lines[0] and '"' not in lines[0] else '"'
    separator = max(SEPARATORS, key=lambda mark: _fields(lines, mark, quote))
    return CsvFormat(separator=separator, quote=quote, encoding="utf-8" if encoding == "utf-8-sig" else encoding)


def number_marks(frame: pd.DataFrame, form: CsvFormat) -> CsvFormat:
    """Add the decimal and the thousands mark that fit most cells."""
    texts = pd.concat([frame[name].dropna().head(_LINES) for name in frame], ignore_index=True).astype(str)
    counts = {marks: int(texts.str.fullmatch(_pattern(*marks)).sum()) for marks in _marks(form.separator)}
    decimal, thousands = max(counts, key=counts.__getitem__)
    return form.model_copy(update={"decimal": decimal, "thousands": thousands})


def _marks(separator: str) -> list[tuple[str, str | None]]:
    """List pairs of decimal and thousands mark; where several fit equally many cells, the first is taken."""
    marks: list[tuple[str, str | None]] = [(".", None), (".", ","), (",", "."), (",", None), (".", " "), (",", " ")]
    return [pair for pair in marks if separator not in pair]


def _pattern(decimal: str, thousands: str | None) -> str:
    whole = rf"\d{{1,3}}({re.escape(thousands)}\d{{3}})+|\d+" if thousands else r"\d+"
    return rf"[+-]?({whole})({re.escape(decimal)}\d+)?"


def _fields(lines: Sequence[str], separator: str, quote: str) -> tuple[int, int]:
    """Count the lines with as many fields as the first, and those fields; (0, 0) where the first has only one."""
    try:
        rows = [len(row) for row in csv.reader(lines, delimiter=separator, quotechar=quote)]
    except csv.Error:
        return 0, 0
    return (rows.count(rows[0]), rows[0]) if rows[0] > 1 else (0, 0)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    return next((encoding for encoding in ("utf-8", "cp1252") if _decodes(path, encoding)), "latin-1")


def _decodes(path: Path, encoding: str) -> bool:
    try:
        with path.open(encoding=encoding, newline="") as file:
            while file.read(_BLOCK):
                pass
    except UnicodeDecodeError:
        return False
    return True
