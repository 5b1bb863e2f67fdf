"""Writes typed rows in the format of a contract's source file."""

from pathlib import Path
from typing import Any

import pandas as pd

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.errors import StorageError

CSV_ROWS = 100_000


def write_csv(frame: pd.DataFrame, contract: Contract, path: Path) -> None:
    """Write a typed frame in the format of the contract's source, so that it can be ingested like the real file.

    A missing value is written as the first of its column's `missing` values, or as an empty cell where the column has
    none. Booleans are written as 0 and 1.

    Raises
    ------
    StorageError
        the file can't be written
    """
    form = contract.source.format
    try:
        with path.open("w", encoding=form.encoding, newline="") as file:
            for first in range(0, max(1, len(frame)), CSV_ROWS):
                part = frame.iloc[first : first + CSV_ROWS]
                cells = pd.DataFrame({c.name: texts(c, part[c.name], contract) for c in contract.columns})
                cells.to_csv(
                    file,
                    sep=form.separator,
                    quotechar=form.quote,
                    index=False,
                    header=first == 0,
                    lineterminator="\n",
                )
    except OSError as error:
        raise StorageError(
            f"{path}: simulated rows can't be written ({error}); name a file in a writable directory"
        ) from None


def texts(column: Column, cells: "pd.Series[Any]", contract: Contract) -> "pd.Series[Any]":
    """Convert typed cells of a column to the text of the contract's source file."""
    if column.role == Role.TARGET:
        return cells.map({True: contract.target.positive, False: contract.target.negative})
    if column.type in ("integer", "boolean"):
        cells = cells.astype("Int64")
    elif column.type == "date":
        cells = cells.dt.strftime("%Y-%m-%d")
    words = cells.astype("string").fillna(column.missing[0] if column.missing else "")
    if column.type == "number":
        return words.str.replace(".", contract.source.format.decimal, regex=False)
    return words
