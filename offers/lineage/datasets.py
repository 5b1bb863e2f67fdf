"""Data sets in the lineage file: the content of each, the step that wrote it last, and the steps that read it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offers.errors import StorageError
from offers.files import os_errors
from offers.lineage.sink import FILE


@dataclass(frozen=True)
class DataSet:
    """A data set as it was last written or read.

    Attributes
    ----------
    version : fingerprint of its rows, SHA-256 of its file, or a bundle's name; empty where unknown
    rows : number of rows, None where unknown
    columns : types by name
    written_by : the job that wrote it last; empty for a data set from outside
    written_at : when, ISO 8601
    read_by : jobs, in the order of their first reading
    """

    namespace: str
    name: str
    version: str = ""
    rows: int | None = None
    columns: dict[str, str] = field(default_factory=dict)
    written_by: str = ""
    written_at: str = ""
    read_by: tuple[str, ...] = ()


def read(home: Path) -> list[DataSet]:
    """Read the data sets that steps on this machine reported, in the order of their first mention.

    Raises
    ------
    StorageError
        the file can't be read, or one of its lines is not an event
    """
    path = home / FILE
    if not path.exists():
        return []
    with os_errors(path):
        lines = path.read_bytes().splitlines()
    sets: dict[tuple[str, str], DataSet] = {}
    for number, line in enumerate(lines, 1):
        try:
            _take(sets, json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise StorageError(
                f"{path}: expected an event of OpenLineage in line {number}, found something else; take the line out"
            ) from None
    return list(sets.values())


def _take(sets: dict[tuple[str, str], DataSet], event: dict[str, Any]) -> None:
    if event["eventType"] != "COMPLETE":
        return
    job = event["job"]["name"]
    for data in event["inputs"]:
        former = _former(sets, data)
        read_by = tuple(dict.fromkeys((*former.read_by, job)))
        origin = former.written_by, former.written_at
        _keep(sets, data, "dataQualityMetrics", *origin, read_by)
    for data in event["outputs"]:
        _keep(sets, data, "outputStatistics", job, event["eventTime"], _former(sets, data).read_by)


def _former(sets: dict[tuple[str, str], DataSet], data: dict[str, Any]) -> DataSet:
    key = data["namespace"], data["name"]
    return sets.get(key, DataSet(*key))


def _keep(
    sets: dict[tuple[str, str], DataSet],
    data: dict[str, Any],
    counted: str,
    written_by: str,
    written_at: str,
    read_by: tuple[str, ...],
) -> None:
    facets = data["facets"] | data.get("inputFacets", {}) | data.get("outputFacets", {})
    key = data["namespace"], data["name"]
    sets[key] = DataSet(
        *key,
        str(facets.get("version", {}).get("datasetVersion", "")),
        facets.get(counted, {}).get("rowCount"),
        {column["name"]: column["type"] for column in facets.get("schema", {}).get("fields", ())},
        written_by,
        written_at,
        read_by,
    )
