"""Reads the rows of a CSV, Parquet or Excel file as they are, if its columns are the contract's."""

import codecs
import csv
import difflib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import parquet

from offers.contract.contract import Contract
from offers.contract.sections import CsvFormat
from offers.data import formats
from offers.errors import DataError, OffersError, SourceError
from offers.files import os_errors
from offers.wording import some

SEPARATORS = ";,\t|"

# Of pandas' own types only these keep whole numbers exact in a column with empty cells.
_INTEGERS = {
    getattr(pa, f"{sign}int{bits}")(): getattr(pd, f"{'UInt' if sign else 'Int'}{bits}Dtype")()
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}


Select = Callable[[Sequence[str]], list[str]]
"""Of the names of a file's columns those to read, in their order; raises where they will not do."""


def read(path: Path, contract: Contract, origin: str) -> pd.DataFrame:
    """Read a file's rows, in the contract's order of columns.

    Cells of a CSV file are text (dtype string[pyarrow]; null where empty and unquoted); those of Parquet and Excel
    keep their own types. A file packed by gzip or zstd is unpacked on the way.

    Parameters
    ----------
    origin : the file's name in messages

    Raises
    ------
    SourceError
        the file can't be read, is empty or of an unsupported kind, or encoding or separator are not the declared ones
    DataError
        columns are missing, unknown or occur twice; a row has too many or too few cells; there are no rows
    """
    return read_columns(path, contract.source.format, origin, lambda names: ordered(names, contract, origin))


def read_columns(path: Path, form: CsvFormat, origin: str, select: Select) -> pd.DataFrame:
    """Read the columns that `select` picks, as `read` does."""
    with os_errors(path, SourceError):
        kind = formats.kind_of(path, origin)
        if kind in ("gzip", "zstd"):
            with tempfile.TemporaryDirectory() as folder:
                unpacked = Path(folder) / "unpacked"
                formats.unpack(path, kind, unpacked, origin)
                return read_columns(unpacked, form, origin, select)
        read_rows = {"parquet": _read_parquet, "workbook": _read_workbook, "csv": _read_csv}[kind]
        return not_empty(read_rows(path, form, origin, select), origin)


def header(path: Path, form: CsvFormat, origin: str) -> list[str]:
    """Read the names of a CSV file's columns; errors are those of `read`."""
    with os_errors(path, SourceError):
        try:
            names = _header(path, form)
        except (UnicodeError, csv.Error) as error:
            raise _malformed(path, form, origin, error) from None
    _check_separator(names, form, origin)
    return names


def stream(path: Path, form: CsvFormat, names: list[str], origin: str) -> Iterator[pa.RecordBatch]:
    """Yield columns of a CSV file as text, a batch at a time; errors are those of `read`."""
    try:
        with arrow_csv.open_csv(path, **_options(form, names)) as reader:
            yield from reader
    except (UnicodeError, pa.ArrowInvalid) as error:
        raise _malformed(path, form, origin, error) from None


def not_empty(frame: pd.DataFrame, origin: str) -> pd.DataFrame:
    """Return the frame if it has rows; raises DataError if it has none."""
    if frame.empty:
        raise DataError(f"{origin}: expected rows, got column names only")
    return frame


def ordered(names: Sequence[str], contract: Contract, origin: str) -> list[str]:
    """Return the contract's columns in its order; raises DataError, which lists the differences, if `names` differ.

    Extra names are allowed where the contract ignores extra columns.
    """
    expected = [column.name for column in contract.columns]
    ignored = contract.source.extra_columns == "ignore"
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1 and not (ignored and name not in expected)]
    missing = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    shown_extra = (
        [] if ignored else [name or f"a column without name (number {names.index(name) + 1})" for name in extra]
    )
    problems = {
        "there twice": [name or "a column without name" for name in twice],
        "missing": _with_likely(missing, extra),
        "not in the contract": shown_extra,
    }
    if any(problems.values()):
        differences = "; ".join(f"{what}: {some(who)}" for what, who in problems.items() if who)
        ignoring = (
            "; 'extra_columns: ignore' under 'source' would leave them out" if shown_extra and not missing else ""
        )
        count = f"{len(expected)} column{'s' if len(expected) > 1 else ''}"
        raise DataError(f"{origin}: expected the {count} of contract {contract.name}; {differences}{ignoring}")
    return expected


def _with_likely(missing: Sequence[str], extra: Sequence[str]) -> list[str]:
    lowered = {name.strip().casefold(): name for name in extra}
    likely = {name: difflib.get_close_matches(name.casefold(), lowered, n=1) for name in missing}
    return [f"{name} (is it {lowered[alike[0]]!r}?)" if alike else name for name, alike in likely.items()]


def _read_parquet(path: Path, form: CsvFormat, origin: str, select: Select) -> pd.DataFrame:
    try:
        with parquet.ParquetFile(path) as file:
            # pandas saves an index without a name as a column of this name.
            saved = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
            names = select(saved)
            return exact_frame(file.read(columns=names))[names]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{origin}: expected a Parquet file, but it can't be read ({_line(error)})") from None


def exact_frame(table: pa.Table) -> pd.DataFrame:
    """Convert an Arrow table to pandas' types; whole numbers stay exact in columns with empty cells too."""
    with_nulls = {column.type for column in table.columns if column.null_count}
    mapper = {kind: _INTEGERS[kind] for kind in with_nulls & _INTEGERS.keys()}.get
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, types_mapper=mapper)
    return frame


def _read_workbook(path: Path, form: CsvFormat, origin: str, select: Select) -> pd.DataFrame:
    from offers.data import workbook

    names, frame = workbook.read(path, form.sheet, origin)
    columns = select(names)
    return frame.set_axis(names, axis="columns")[columns]


def _read_csv(path: Path, form: CsvFormat, origin: str, select: Select) -> pd.DataFrame:
    try:
        header = _header(path, form)
        _check_separator(header, form, origin)
        frame = _table(path, form, select(header))
    except (UnicodeError, csv.Error, pa.ArrowInvalid) as error:
        raise _malformed(path, form, origin, error) from None
    last = frame.get(header[-1])
    if last is not None and len(last) and _left_open(last.iloc[-1], path, form):
        raise DataError(f"{origin}: the {form.quote} that opens the last cell is never closed; complete the file")
    return frame


def _header(path: Path, form: CsvFormat) -> list[str]:
    with path.open(encoding=_encoding(form), newline="") as file:
        rows = csv.reader(file, delimiter=form.separator, quotechar=form.quote)
        return next((row for row in rows if row), [""])


def _encoding(form: CsvFormat) -> str:
    try:
        "".encode(form.encoding)
    except LookupError as error:
        raise SourceError(f"contract key source.format.encoding: expected utf-8, latin-1 or such; {error}") from None
    return "utf-8-sig" if codecs.lookup(form.encoding).name == "utf-8" else form.encoding


def _check_separator(header: Sequence[str], form: CsvFormat, origin: str) -> None:
    if len(header) > 1:
        return
    likely = max(SEPARATORS, key=header[0].count)
    guess = f"it seems to be {likely!r}" if likely in header[0] else f"the first line is {header[0][:60]!r}"
    raise SourceError(
        f"{origin}: expected columns separated by {form.separator!r} "
        f"(contract key source.format.separator), but the header came as one column; {guess}"
    )


def _table(path: Path, form: CsvFormat, names: list[str]) -> pd.DataFrame:
    table = arrow_csv.read_csv(path, **_options(form, names))
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get)
    return frame


def _options(form: CsvFormat, names: list[str]) -> dict[str, Any]:
    return {
        "read_options": arrow_csv.ReadOptions(encoding=form.encoding),
        "parse_options": _parse_options(form),
        "convert_options": arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=names,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    }


def _parse_options(
    form: CsvFormat, on_ragged: Callable[[arrow_csv.InvalidRow], str] | None = None
) -> arrow_csv.ParseOptions:
    return arrow_csv.ParseOptions(
        delimiter=form.separator, quote_char=form.quote, newlines_in_values=True, invalid_row_handler=on_ragged
    )


def _malformed(path: Path, form: CsvFormat, origin: str, error: Exception) -> OffersError:
    """Explain why a file can't be read as CSV; reads it again to find the place."""
    line = _undecodable(path, form.encoding)
    if line or isinstance(error, UnicodeError):
        place = f"line {line}" if line else "the file"
        return SourceError(
            f"{origin}: expected {form.encoding} (contract key source.format.encoding), but {place} is not"
        )
    if row := _ragged(path, form):
        return DataError(
            f"{origin}: expected {row.expected_columns} cells in each row, got {row.actual_columns} in row "
            f"{row.number} (the header is row 1, empty lines do not count): {row.text[:80]!r}"
        )
    return DataError(f"{origin}: expected CSV, but it can't be read ({_line(error)}); is a {form.quote} never closed?")


def _undecodable(path: Path, encoding: str) -> int | None:
    content = path.read_bytes()
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return None


def _ragged(path: Path, form: CsvFormat) -> arrow_csv.InvalidRow | None:
    rows: list[arrow_csv.InvalidRow] = []

    def stop(row: arrow_csv.InvalidRow) -> str:
        rows.append(row)
        return "error"

    # Arrow numbers the rows only when it reads with a single thread.
    with suppress(pa.ArrowInvalid):
        arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(encoding=form.encoding, use_threads=False),
            parse_options=_parse_options(form, stop),
        )
    return rows[0] if rows else None


def _left_open(last: object, path: Path, form: CsvFormat) -> bool:
    """Whether the last cell of the last row runs to the end of the file because its quote is never closed."""
    if not isinstance(last, str) or "\n" not in last:
        return False
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 1024), os.SEEK_END)
        return not file.read().rstrip(b"\r\n\0").endswith(form.quote.encode())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
