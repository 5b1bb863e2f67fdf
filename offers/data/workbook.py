"""Reads the rows of an Excel workbook (xlsx); cells keep the types that Excel gives them."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import openpyxl
import pandas as pd
from openpyxl.utils.exceptions import InvalidFileException

from offers.errors import DataError, SourceError
from offers.wording import some

_NO_ROW: tuple[Any, ...] = ()


def read(path: Path, sheet: str | None, origin: str) -> tuple[list[str], pd.DataFrame]:
    """Read a sheet, by default the first: the names in its first row, and the rows below as objects.

    Raises
    ------
    SourceError
        the workbook is broken, or has no such sheet
    DataError
        a row has cells in a column without a name
    """
    try:
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
        with_rows = {table.title: table for table in workbook.worksheets}
        if sheet is not None and sheet not in with_rows:
            raise SourceError(f"{origin}: expected sheet {sheet!r} (source.format.sheet); it has {some([*with_rows])}")
        table = with_rows[sheet] if sheet is not None else workbook.worksheets[0]
        rows = _filled(table.iter_rows(values_only=True))
        names = [str(name) for name in _trimmed(next(rows, _NO_ROW))]
        cells = [_fitted(row, len(names), place, origin) for place, row in enumerate(rows, 1)]
        workbook.close()
    except (InvalidFileException, zipfile.BadZipFile, ParseError, KeyError, ValueError, IndexError) as error:
        line = " ".join(str(error).split())
        raise SourceError(f"{origin}: expected an Excel workbook, but it can't be read ({line})") from None
    return names, pd.DataFrame(cells, columns=pd.RangeIndex(len(names)), dtype=object)


def _filled(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    return (row for row in rows if any(cell is not None for cell in row))


def _trimmed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Drop the empty cells at the end of a row; an empty cell between others is a column without a name."""
    last = max((place for place, cell in enumerate(row) if cell is not None), default=-1)
    return tuple("" if cell is None else cell for cell in row[: last + 1])


def _fitted(row: tuple[Any, ...], width: int, place: int, origin: str) -> tuple[Any, ...]:
    if any(cell is not None for cell in row[width:]):
        raise DataError(f"{origin}: expected {width} cells in each row, as in the first, got more in row {place}")
    return (*row[:width], *(None,) * (width - len(row)))
