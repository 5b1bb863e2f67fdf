"""Reads columns of a file of decisions, some rows at a time; words come as dictionaries, and lists in part."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyarrow import dataset, parquet

from offers.decisions.records import ADDED

ROWS = 50_000
"""Rows of a file that are in memory at once."""
WORDS = ("key_id", "arm", "catalogue", "model", "experiment", "offer_id")
"""Columns and parts of lists that have few words, which take a fifth of the time to read as a dictionary."""


def read(piece: dataset.ParquetFileFragment, schema: pa.Schema, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read columns of a file; yields up to `ROWS` rows at a time.

    Parameters
    ----------
    schema : the table's; a column that it lacks, as a table of an earlier version may, is null in every row
    columns : "customer", or "pairs.propensity" for a part of a list's entries
    """
    with piece.filesystem.open_input_file(piece.path) as source:
        metadata = parquet.read_metadata(source)
        paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
        chosen = [path for path in paths if any(_leads_to(name, path) for name in columns)]
        words = [path for path in chosen if path.rpartition(".")[2] in WORDS]
        file = parquet.ParquetFile(source, metadata=metadata, read_dictionary=words, pre_buffer=True)
        for batch in file.iter_batches(ROWS, columns=chosen):
            yield _typed(pa.Table.from_batches([batch]), schema, columns)


def empty(schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Make a table of the columns without rows."""
    return _typed(schema.empty_table(), schema, columns)


def plain(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Turn dictionaries into the words that they stand for."""
    return rows.cast(pa.schema([pa.field(name, _type(schema, name)) for name in rows.column_names]))


def _leads_to(name: str, path: str) -> bool:
    column, _, part = name.partition(".")
    return column == path.partition(".")[0] and part in ("", path.rpartition(".")[2])


def _typed(rows: pa.Table, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    cells = {}
    for name in dict.fromkeys(one.partition(".")[0] for one in columns):
        there = name in rows.column_names
        cell = rows[name] if there else pa.chunked_array([pa.nulls(len(rows), _type(schema, name))])
        # Files that an erasure wrote have another type of text.
        if not (pa.types.is_dictionary(cell.type) or pa.types.is_list(cell.type)):
            cell = cell.cast(_type(schema, name))
        cells[name] = cell.dictionary_encode() if name in WORDS else cell
    return pa.table(cells)


def _type(schema: pa.Schema, name: str) -> pa.DataType:
    return schema.field(name).type if name in schema.names else ADDED[name]
