"""Where tables of customers and of scores lie: which names mean Delta tables, and how these are opened."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from offers.files import path_of
from offers.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from offers.batch.parts import Parts, Shard
    from offers.store.delta import DeltaTables


def is_delta(where: str) -> bool:
    """Whether a name means a Delta table: it ends in .delta, or is a directory that holds a table's log."""
    return where.rstrip("/").endswith(".delta") or ("://" not in where and (Path(where) / "_delta_log").is_dir())


def delta_table(where: str, settings: Settings) -> "tuple[DeltaTables, str]":
    """The root and the name of a Delta table; raises `StorageError` for another URI than a path, file:// or s3://."""
    from offers.store.delta import DeltaTables

    if "://" not in where or where.startswith("file://"):
        path = path_of(where).absolute()
        return DeltaTables.at(str(path.parent), settings), path.name
    root, _, name = where.rstrip("/").rpartition("/")
    return DeltaTables.at(root, settings), name


def open_parts(where: str, settings: Settings, shard: "Shard") -> "Parts":
    """Open the place for a scored table: a Delta table if the name means one or is a URI, else a directory."""
    if _is_table(where):
        from offers.batch.delta import DeltaParts

        return DeltaParts(*delta_table(where, settings), shard)
    from offers.batch.directory import Directory

    return Directory(Path(where), shard)


def read_scored(where: str, columns: list[str], settings: Settings) -> Iterator[tuple[str, "pa.Table"]]:
    """Read a scored table a file at a time; yields each file's name for messages, and its rows.

    Raises
    ------
    DataError
        the table is not complete, has no part, or lacks a column
    """
    if _is_table(where):
        from offers.batch import delta

        return delta.scored_files(*delta_table(where, settings), columns)
    from offers.batch import directory

    return directory.scored_files(Path(where), columns)


def scored_customers(where: str, settings: Settings) -> int:
    """Count the customers of a scored table, those without an offer included; 0 where there is no such table."""
    if _is_table(where):
        from offers.batch import delta

        tables, name = delta_table(where, settings)
        return delta.scored_customers(tables, name) if tables.holds(name) else 0
    from offers.batch import directory

    return directory.scored_customers(Path(where))


def _is_table(where: str) -> bool:
    return is_delta(where) or "://" in where
