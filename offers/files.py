"""Files that the steps of a pipeline hand on, and what to say when they can't be written."""

import errno
from pathlib import Path
from typing import TypeVar

import pandas as pd
from pydantic import BaseModel

from offers.errors import StorageError

Record = TypeVar("Record", bound=BaseModel)


def save(directory: Path, name: str, content: BaseModel | pd.DataFrame) -> None:
    """Write a record as JSON, or a table as Parquet, into a directory that is made where it is not there.

    Raises
    ------
    StorageError
        the disk is full, or the directory can't be written
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pd.DataFrame):
            content.to_parquet(directory / name, index=False)
        else:
            (directory / name).write_text(content.model_dump_json(indent=1) + "\n", "utf-8")
    except OSError as error:
        raise storage_error(directory, error) from error


def read(directory: Path, name: str, kind: type[Record]) -> Record:
    """Read a record that `save` wrote."""
    return kind.model_validate_json((directory / name).read_text("utf-8"))


def storage_error(where: Path, error: OSError) -> StorageError:
    """Say in one sentence why a file could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"the disk is full while writing {where}: free some space and run again; earlier results are whole"
        )
    return StorageError(f"can't write {where}: {error.strerror or error}: expected a directory that can be written")
