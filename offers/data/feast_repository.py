"""Writes a feature repository of Feast from a market's contract, and the tables that it serves."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from offers.contract.market import Market
from offers.data import point_in_time, snapshot
from offers.data.feast_views import CONTRACT, FROM, SINCE, VIEWED, View, project, service, views
from offers.data.market_tables import opened, quoted, text
from offers.data.online import after_the_newest
from offers.data.online_row import RowForm
from offers.errors import SourceError
from offers.files import new_text, os_errors

DATA = "data"
"""The directory of the tables, in the repository."""

_STORE = """\
# Feast's stores on this machine. A bank has its own here; the definitions stay as they are.
project: {project}
provider: local
registry: data/registry.db
online_store: {{type: sqlite, path: data/online.db}}
offline_store: {{type: duckdb}}
entity_key_serialization_version: 3
"""

_HEAD = '''\
"""Feature views of the market {name}. `offers market feast` writes them from its contract: change that instead."""

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Bool, Float64, Int64, String

DATA = Path(__file__).resolve().parent / "{data}"


def source(name: str) -> FileSource:
    return FileSource(name=name, path=str(DATA / f"{{name}}.parquet"), timestamp_field="{moment}")


'''


def write_repository(market: Market, directory: Path) -> list[View]:
    """Write `feature_store.yaml`, unless there is one, and `definitions.py`; returns the views.

    Raises
    ------
    ContractError
        a name is none that Feast takes
    StorageError
        the directory can't be written
    """
    found = views(market)
    with os_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "feature_store.yaml").exists():
        new_text(directory / "feature_store.yaml", _STORE.format(project=project(market)))
    new_text(directory / "definitions.py", _definitions(market, found))
    return found


def _definitions(market: Market, found: list[View]) -> str:
    entities = {market.users.key: "user", market.products.key: "product"}
    parts = [_HEAD.format(name=market.name, data=DATA, moment=FROM)]
    parts += [
        f"{noun} = Entity(name={key!r}, join_keys=[{key!r}], value_type=ValueType.STRING)\n"
        for key, noun in entities.items()
    ]
    for view in found:
        lines = [f"        Field(name={name!r}, dtype={kind}),\n" for name, kind in view.fields.items()]
        parts.append(
            f"{view.name} = FeatureView(\n    name={view.name!r},\n    description={view.about!r},\n"
            f"    entities=[{', '.join(entities[key] for key in view.keys)}],\n"
            f"    ttl=timedelta(days={view.days}),\n    online={view.of_users},\n"
            f"    schema=[\n{''.join(lines)}    ],\n    source=source({view.name!r}),\n)\n"
        )
    services = {service(market): [view for view in found if view.of_users], f"{project(market)}_training": found}
    parts += [
        f"{name} = FeatureService(name={name!r}, features=[{', '.join(view.name for view in some)}])\n"
        for name, some in services.items()
    ]
    return "".join(parts)


def write_tables(market: Market, tables: Path, directory: Path) -> dict[str, int]:
    """Write the tables of the views to `data` in a repository; returns the number of rows of each.

    A row holds from its moment on until the next one of its keys, so that an as-of join, Feast's or another, has what
    `offers.data.point_in_time` has at any moment.

    Parameters
    ----------
    tables : the directory of the market's tables

    Raises
    ------
    ContractError
        a name is none that Feast takes
    SourceError
        a table is missing, can't be read, or breaks the contract
    StorageError
        the tables can't be written
    """
    found, place, counts = views(market), directory / DATA, dict[str, int]()
    with os_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        with opened(market, tables, place) as connection:
            moment = after_the_newest(connection, tables)
            for view in found:
                rows = _rows(market, connection, view, moment)
                counts[view.name] = _write(rows, _schema(view), place / f"{view.name}.parquet")
    return counts


def _rows(
    market: Market, connection: duckdb.DuckDBPyConnection, view: View, moment: np.datetime64
) -> Iterator[pa.Table]:
    """Yield the rows of a view, whose columns are in the order of `_schema`."""
    if view.feature is not None:
        yield from point_in_time.changes(market, connection, view.feature)
    elif VIEWED in view.fields:
        for table in snapshot.snapshot(market, connection, moment):
            at = pa.array(np.full(len(table), moment.astype("datetime64[us]")))
            yield pa.table([table[market.users.key], at, table[snapshot.VIEWED]], ["key", "at", "viewed"])
    else:
        name = "users" if view.of_users else "products"
        ours = {CONTRACT: text(RowForm(market).digest.hex()), SINCE: "epoch_us(_since)"}
        cells = [ours.get(one, quoted(one)) for one in view.fields]
        query = f"SELECT _key, _since, {', '.join(cells)} FROM {name} ORDER BY _key, _since"
        try:
            for batch in connection.sql(query).to_arrow_reader(point_in_time.BATCH):
                yield pa.Table.from_batches([batch])
        except duckdb.Error as error:
            raise SourceError(f"the tables can't be read: {str(error).splitlines()[0]}") from None


def _schema(view: View) -> pa.Schema:
    kinds = {"Int64": pa.int64(), "Float64": pa.float64(), "String": pa.string(), "Bool": pa.bool_()}
    kinds["Array(Int64)"] = pa.list_(pa.int64())
    keys = [pa.field(key, pa.string()) for key in view.keys]
    fields = [pa.field(name, kinds[kind]) for name, kind in view.fields.items()]
    return pa.schema([*keys, pa.field(FROM, pa.timestamp("us", "UTC")), *fields])


def _write(rows: Iterator[pa.Table], schema: pa.Schema, path: Path) -> int:
    """Write a table, which gets its name once it is complete; returns the number of rows."""
    part, count = path.with_name(f"{path.name}.part"), 0
    try:
        with parquet.ParquetWriter(part, schema) as writer:
            for table in rows:
                count += len(table)
                writer.write_table(table.rename_columns(schema.names).cast(schema))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count
