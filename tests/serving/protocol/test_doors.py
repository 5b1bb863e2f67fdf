"""The same value through every door, a file, a query, a Delta table, a request or a tensor, has the same outcome."""

import datetime as dt
import json
import math
import sqlite3
import struct
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from offers.batch.customers import CustomerSchema
from offers.batch.delta import delta_customers
from offers.contract.contract import Contract
from offers.contract.values import LARGEST, word
from offers.data import sql, table_file
from offers.data.validation import validate
from offers.errors import DataError, RequestError
from offers.model.encoder import Encoder
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.protocol.rows import RequestSchema, Rows
from serving.protocol.tensor import Tensor

REFUSED = "refused"
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # Each case writes files, so that to shrink one takes minutes.
NUMBERS = st.one_of(
    st.integers(-60, 60),
    st.integers(-(10**40), 10**40),
    st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, -(2**53), 2**63 - 1, 2**63, 2**64 - 1, 2**64, 99, 999]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.1, -1.5, 3.0, 2.5, 1e300, 3.4028234663852886e38, 3.4028236e38, -0.0, 5e-324]),
    st.none(),
)
WORDS = st.sampled_from(["yes", "NO", "t", "off", "ja", "Nein", "Ä", "a", "?", "maybe", "1", "0", "2"])
COLUMNS: dict[str, tuple[dict[str, Any], st.SearchStrategy[Any]]] = {
    "integer": ({"type": "integer"}, NUMBERS),
    "limited integer": ({"type": "integer", "min": 0, "max": 50, "missing": [99]}, NUMBERS),
    "number": ({"type": "number"}, NUMBERS),
    "limited number": ({"type": "number", "min": -1.5, "max": 0.1, "nullable": True}, NUMBERS),
    "boolean": ({"type": "boolean", "true_values": ["Ja"], "false_values": ["Nein"]}, WORDS | st.booleans() | NUMBERS),
    "open boolean": ({"type": "boolean", "nullable": True}, WORDS | st.booleans() | st.none()),
    "category": ({"type": "category", "values": ["yes", "no", "3", "2.5", "Ä"]}, WORDS | st.booleans() | NUMBERS),
    "open category": ({"type": "category", "values": ["1", "0"], "unknown": "missing"}, WORDS | NUMBERS),
}


def contract_of(keys: dict[str, Any]) -> Contract:
    return Contract.model_validate(
        {
            "name": "doors",
            "title": "Doors",
            "source": {"file": "doors.csv", "query": "select * from doors"},
            "target": {"column": "y", "positive": "1", "negative": "0"},
            "columns": [
                {"name": "x", "role": "customer", **keys},
                {"name": "y", "role": "target", "type": "category"},
            ],
            "gate": [{"metric": "auc", "at_least": 0.5}],
        }
    )


def seen(rows: pd.DataFrame | Rows, contract: Contract) -> str | float:
    """What the model sees of the first row."""
    value = float(Encoder.of(contract).encode(rows)[0, 0])
    return "missing" if math.isnan(value) else value


def of_table(rows: pd.DataFrame, contract: Contract) -> str | float:
    checked = validate(pd.concat([rows, rows], ignore_index=True).assign(y=["1", "0"]), contract)
    return seen(checked.frame, contract) if checked.passed else REFUSED


def through_csv(value: Any, contract: Contract, folder: Path) -> str | float:
    cell = "" if value is None else f'"{word(value, contract["x"].values)}"'
    (folder / "rows.csv").write_text(f"x,y\n{cell},1\n", "utf-8")
    return of_table(table_file.read(folder / "rows.csv", contract, "rows"), contract)


def through_parquet(value: Any, contract: Contract, folder: Path) -> str | float | None:
    try:
        table = pa.table({"x": pa.array([value]), "y": ["1"]})
    except OverflowError:
        table = pa.table({"x": pa.array([value], pa.uint64()), "y": ["1"]}) if 0 <= value < 2**64 else None
    if table is None:
        return None
    parquet.write_table(table, folder / "rows.parquet")
    return of_table(table_file.read(folder / "rows.parquet", contract, "rows"), contract)


def through_query(value: Any, contract: Contract, folder: Path) -> str | float | None:
    # SQLite has no booleans and whole numbers of 64 bits.
    if isinstance(value, bool) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        return None
    path = folder / "rows.db"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("create table doors (x, y text)")
        connection.execute("insert into doors values (?, '1')", [value])
    connection.close()
    return of_table(sql.query(contract, f"sqlite:///{path}"), contract)


def through_scoring(values: pa.Array, contract: Contract) -> str | float:
    """What the model sees of the first row of a table that is scored, as Delta, Parquet and CSV hand it on."""
    batch = pa.RecordBatch.from_arrays([values, pa.array(["c"] * len(values))], ["x", "id"])
    try:
        return seen(CustomerSchema(contract, "id").typed(batch).columns, contract)
    except DataError:
        return REFUSED


def scored_arrays(value: Any, contract: Contract) -> Iterator[pa.Array]:
    """The columns that hold the value exactly: of its own type, where tables have one, and of text."""
    if not isinstance(value, int) or isinstance(value, bool) or -(2**63) <= value < 2**63:
        kind = pa.string() if value is None else None
        yield pa.array([value], kind)
    yield pa.array([None if value is None else word(value, contract["x"].values)], pa.string())


def asked(ask: Callable[[], Rows], contract: Contract) -> str | float:
    try:
        return seen(ask(), contract)
    except RequestError:
        return REFUSED


def through_json(value: Any, contract: Contract) -> str | float:
    instances = json.loads(json.dumps([{"x": value}]))
    return asked(lambda: RequestSchema(contract.inputs).from_instances(instances), contract)


def tensors_of(value: Any, contract: Contract) -> Iterator[Tensor]:
    """The tensors that hold the value exactly, or the nearest number where none does."""
    if contract["x"].type == "category" or isinstance(value, str):
        text = b"" if value is None else word(value, contract["x"].values).encode()
        yield Tensor("x", "BYTES", [1], raw=struct.pack("<I", len(text)) + text)
    elif isinstance(value, bool):
        yield Tensor("x", "BOOL", [1], values=[value])
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        yield Tensor("x", "INT64", [1], raw=np.array([value], "<i8").tobytes())
        yield Tensor("x", "INT64", [1], values=[value])
    elif isinstance(value, int) and 0 <= value < 2**64:
        yield Tensor("x", "UINT64", [1], raw=np.array([value], "<u8").tobytes())
    number = math.nan if value is None else value
    if contract["x"].type != "category" and not isinstance(value, str | bool):
        yield Tensor("x", "FP64", [1], raw=struct.pack("<d", number))


@pytest.mark.parametrize("kind", COLUMNS)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_value_has_one_outcome_at_every_door(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    keys, strategy = COLUMNS[kind]
    contract, value = contract_of(keys), data.draw(strategy)
    outcomes = {
        "csv": through_csv(value, contract, tmp_path),
        "parquet": through_parquet(value, contract, tmp_path),
        "query": through_query(value, contract, tmp_path),
        "json": through_json(value, contract),
    }
    for place, array in enumerate(scored_arrays(value, contract)):
        outcomes[f"scored {place}"] = through_scoring(array, contract)
    for place, tensor in enumerate(tensors_of(value, contract)):
        outcomes[f"{tensor.datatype} {place}"] = asked(
            lambda tensor=tensor: RequestSchema(contract.inputs).from_tensors([tensor]), contract
        )
    assert len({one for one in outcomes.values() if one is not None}) == 1, (value, outcomes)


def plain_type(value: Any) -> pa.DataType | None:
    """The type of a Delta column that holds the value exactly; None where there is no such type."""
    if isinstance(value, int) and not isinstance(value, bool):
        return pa.int64() if -(2**63) <= value < 2**63 else None
    if isinstance(value, float) and abs(value) <= LARGEST and float(np.float32(value)) == value:
        return pa.float32()
    return pa.string() if value is None else pa.array([value]).type


@pytest.mark.parametrize("kind", COLUMNS)
@given(data=st.data())
@settings(max_examples=3, phases=QUICK, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_delta_table_is_a_door_like_the_others(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys, strategy = COLUMNS[kind]
    contract, values = contract_of(keys), data.draw(st.lists(strategy, min_size=20, max_size=20))
    folder = tmp_path_factory.mktemp("doors")
    tables, schema = DeltaTables.at(str(folder), Settings()), CustomerSchema(contract, "id")
    for place, cell_type in enumerate({plain_type(value) for value in values} - {None}):
        cells = [value for value in values if plain_type(value) == cell_type]
        rows = pa.table({"x": pa.array(cells, cell_type), "id": ["c"] * len(cells)})
        tables.append(f"t{place}", rows, "test", 1)
        (batch,) = delta_customers(tables, f"t{place}", schema, None).read(len(cells))
        for row, value in enumerate(cells):
            found = through_scoring(batch.slice(row, 1).column("x"), contract)
            assert found == through_csv(value, contract, folder), (value, cell_type)


def moment_of(cell: bytes) -> dt.date | None:
    """What a driver returns for a column of dates or of times with a zone."""
    return (dt.date if len(cell) == len("2000-01-01") else dt.datetime).fromisoformat(cell.decode())


sqlite3.register_converter("moment", moment_of)
SHORT = [pa.array([np.float32(0.1)]), pa.array([np.float32(-1.5)]), pa.array([np.float32(0.2)])]


@pytest.mark.parametrize(
    ("keys", "array"),
    [*(({"type": "number", "min": -1.5, "max": 0.1}, array) for array in SHORT)]
    + [({"type": "boolean"}, pa.array([cell])) for cell in (b"yes", b"maybe", 1.0, 2, "off")]
    + [({"type": "integer"}, pa.array([cell])) for cell in (Decimal("3.0"), Decimal("3.5"), b"3")]
    + [({"type": "category", "values": ["3", "x"]}, pa.array([cell])) for cell in (b"x", 3.0, Decimal(3), b"y")],
)
def test_types_of_tables_are_read_alike_where_they_are_learnt_and_scored(
    keys: dict[str, Any], array: pa.Array, tmp_path: Path
) -> None:
    contract = contract_of(keys)
    parquet.write_table(pa.table({"x": array, "y": ["1"]}), tmp_path / "rows.parquet")
    learnt = of_table(table_file.read(tmp_path / "rows.parquet", contract, "rows"), contract)
    assert learnt == through_scoring(array, contract)


MOMENTS = st.one_of(
    st.none(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-9, minutes=-30))])),
    st.sampled_from([dt.date(1677, 12, 31), dt.date(1678, 1, 1), dt.date(2261, 12, 31), dt.date(2262, 1, 1)]),
)


def dated(keys: dict[str, Any]) -> Contract:
    """The contract of a date, which no model sees, beside a number."""
    contract = contract_of({"type": "integer"}).model_dump(mode="json")
    target = contract["columns"].pop()
    contract["columns"] = [{"name": "x", "type": "date", **keys}, {**contract["columns"][0], "name": "z"}, target]
    time = {"column": "x"} if keys["role"] == "time" else None
    return Contract.model_validate(contract | {"time": time})


def of_dates(rows: pd.DataFrame, contract: Contract) -> str | pd.Timestamp:
    checked = validate(pd.concat([rows, rows], ignore_index=True).assign(y=["1", "0"]), contract)
    if not checked.passed:
        return REFUSED
    date = checked.frame["x"].iloc[0]
    return "missing" if pd.isna(date) else date


@pytest.mark.parametrize(
    "keys", [{"role": "time"}, {"role": "identifier", "nullable": True, "missing": ["2000-01-01"]}], ids=str
)
@given(value=MOMENTS | st.just(dt.date(2000, 1, 1)) | st.just(dt.datetime(2000, 1, 1)))
@settings(max_examples=20, phases=QUICK, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_date_has_one_outcome_at_every_door_of_data(
    keys: dict[str, Any], value: dt.date | None, tmp_path: Path
) -> None:
    contract = dated(keys)
    text = "" if value is None else str(value)
    (tmp_path / "rows.csv").write_text(f"x,z,y\n{text},7,1\n", "utf-8")
    parquet.write_table(pa.table({"x": pa.array([value]), "z": [7], "y": ["1"]}), tmp_path / "rows.parquet")
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("create table if not exists doors (x moment, z, y text)")
        connection.execute("delete from doors")
        connection.execute("insert into doors values (?, 7, '1')", [None if value is None else text])
    connection.close()
    outcomes = {
        "csv": of_dates(table_file.read(tmp_path / "rows.csv", contract, "rows"), contract),
        "parquet": of_dates(table_file.read(tmp_path / "rows.parquet", contract, "rows"), contract),
        "query": of_dates(
            sql.query(contract, f"sqlite:///{tmp_path}/rows.db?detect_types={sqlite3.PARSE_DECLTYPES}"), contract
        ),
    }
    assert len(set(outcomes.values())) == 1, (value, outcomes)
    if isinstance(value, dt.datetime) and 1678 < value.year < 2261:
        moment = pd.Timestamp(value)
        expected = moment if value.tzinfo is None else moment.tz_convert("UTC").tz_localize(None)
        assert outcomes["csv"] in (expected, "missing")
