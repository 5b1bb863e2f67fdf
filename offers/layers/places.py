"""Where the layers of a contract lie: Delta tables below a directory or s3:// prefix, a folder for each contract."""

from offers.contract.contract import Contract
from offers.settings import Settings
from offers.store.delta import DeltaTables

BRONZE, SILVER, REJECTS, GOLD, LOADS = "bronze", "silver", "rejects", "gold", "loads"
"""The tables: rows as they came, rows by the contract, rows that break it, rows to learn from, a row for each load."""

LOAD, LOADED_AT, ROW, TYPED, DIGEST, REASONS, CELLS, POSITION = (
    "_load",
    "_loaded_at",
    "_row",
    "_typed",
    "_digest",
    "_reasons",
    "_cells",
    "_position",
)
"""Columns that the layers add: id and moment of the load, the row's place in it from 1 on, names of the columns whose
cells had a type where they came from, digest of the cells, broken rules, cells in JSON, and place in gold."""


def layers_of(contract: Contract, where: str, settings: Settings) -> DeltaTables:
    """Name the tables of a contract; an empty place is `layers` in the local home.

    Raises
    ------
    StorageError
        the place is neither a path nor s3://
    """
    root = (where or str(settings.home / "layers")).rstrip("/")
    return DeltaTables.at(f"{root}/{contract.name}", settings)
