"""Writes the tables of a market to a directory, block by block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet

from offers.files import os_errors
from offers.simulation.market import SimulatedMarket

Append = Callable[[pd.DataFrame], None]


def write_simulated(simulated: SimulatedMarket, directory: Path) -> tuple[int, int]:
    """Write users, products and interactions of a simulated market; returns the numbers of users and interactions.

    A table gets its name once it is complete.

    Raises
    ------
    StorageError
        the directory can't be written
    """
    market = simulated.market
    users = interactions = 0
    with os_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _table(directory / market.products.file) as append:
            append(simulated.products)
        people, events = _table(directory / market.users.file), _table(directory / market.interactions.file)
        with people as append_users, events as append_interactions:
            for block in simulated.blocks():
                append_users(block.users)
                append_interactions(block.interactions)
                users, interactions = users + len(block.users), interactions + len(block.interactions)
    return users, interactions


@contextmanager
def _table(path: Path) -> Iterator[Append]:
    """Open a table for frames with the same columns; its name decides between Parquet and CSV."""
    part = path.with_name(f"{path.name}.part")
    writers: list[parquet.ParquetWriter | csv.CSVWriter] = []

    def append(frame: pd.DataFrame) -> None:
        rows = pa.Table.from_pandas(frame, preserve_index=False)
        if path.suffix == ".csv":
            rows = rows.cast(pa.schema([(field.name, _plain(field.type)) for field in rows.schema]))
        if not writers:
            kind = csv.CSVWriter if path.suffix == ".csv" else parquet.ParquetWriter
            writers.append(kind(part, rows.schema))
        writers[0].write_table(rows)

    try:
        yield append
        writers.pop().close()
        part.replace(path)
    finally:
        for writer in writers:
            writer.close()
        part.unlink(missing_ok=True)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Replace a dictionary type by its words' type, because CSV has no dictionaries."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind
