"""offers score, in this process and killed in others."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy
from deltalake import DeltaTable, write_deltalake
from pyarrow import parquet

from offers.settings import S3Settings, Settings
from offers.store.delta import DeltaTables
from offers.store.s3 import connect
from tests.support.s3_double import S3Double
from tests.support.seaweedfs import seaweedfs
from tests.support.warranties import WARRANTIES

CUSTOMERS = 400


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "warranties.yaml"
    path.write_text(WARRANTIES)
    return path


@pytest.fixture
def frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "customer_id": [f"c{number}" for number in range(CUSTOMERS)],
            "spending": generator.uniform(0, 2000, CUSTOMERS).round(2),
            "visits": generator.integers(0, 20, CUSTOMERS),
            "region": generator.choice(["north", "south"], CUSTOMERS),
            "member": generator.choice([0, 1], CUSTOMERS),
            "rating": np.where(generator.random(CUSTOMERS) < 0.1, np.nan, 3.5),
        }
    )


@pytest.fixture
def customers(tmp_path: Path, frame: pd.DataFrame) -> Path:
    path = tmp_path / "customers.parquet"
    frame.to_parquet(path, index=False)
    return path


def scored(directory: Path) -> pd.DataFrame:
    tables = [parquet.read_table(path).replace_schema_metadata() for path in sorted(directory.glob("part-*.parquet"))]
    return pa.concat_tables(tables, promote_options="permissive").to_pandas().astype({"offer": str})


def asking(bundle: Path, catalogue: Path, rows: int = 50) -> tuple[object, ...]:
    return ("--bundle", bundle, "--catalogue", catalogue, "--rows", rows)


def test_parquet_csv_and_sql_are_scored_alike(
    offers: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    shop_bundle: Path,
    catalogue: Path,
    customers: Path,
    frame: pd.DataFrame,
) -> None:
    csv, database = tmp_path / "customers.csv", tmp_path / "bank.db"
    frame.to_csv(csv, sep=";", decimal=",", index=False)
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    frame.to_sql("customers", engine, index=False)
    engine.dispose()
    query = ("--query", "select * from customers order by rowid")
    asked = {"parquet": (customers,), "csv": (csv,), "sql": (f"sqlite:///{database}", *query)}
    for name, (source, *more) in asked.items():
        code, said, complaint = offers("score", source, tmp_path / name, *asking(shop_bundle, catalogue), *more)
        assert (code, complaint) == (0, "")
        assert f"{CUSTOMERS} customers (0 of them by an earlier run), 8 parts" in said
    first = scored(tmp_path / "parquet")
    assert first["customer"].nunique() > 300
    for other in ("csv", "sql"):
        pd.testing.assert_frame_equal(scored(tmp_path / other), first)


def test_a_delta_table_holds_what_the_parts_hold_and_duckdb_reads_it(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path, shop_bundle: Path, catalogue: Path, frame: pd.DataFrame
) -> None:
    table, again = tmp_path / "scored.delta", frame.iloc[::-1]
    for rows in (frame[:150], frame[150:]):
        write_deltalake(tmp_path / "customers", pa.Table.from_pandas(rows, preserve_index=False), mode="append")
    asked = (*asking(shop_bundle, catalogue), "--withheld")
    code, said, _ = offers("score", tmp_path / "customers", tmp_path / "parts", *asked)
    assert (code, f"{CUSTOMERS} customers (0 of them" in said) == (0, True)
    assert offers("score", tmp_path / "customers", table, *asked)[0] == 0
    columns, files = "customer, rank, offer, score, reasons", DeltaTable(table).file_uris()
    one, other = (
        f"select {columns} from read_parquet({where!r})" for where in (files, f"{tmp_path}/parts/part-*.parquet")
    )
    for query in (f"({one}) except all ({other})", f"({other}) except all ({one})"):
        assert duckdb.sql(query).fetchall() == []
    assert duckdb.sql(f"select count(distinct customer) from ({one})").fetchall() == [(CUSTOMERS,)]
    version = DeltaTable(table).version()
    assert f"({CUSTOMERS} of them by an earlier run)" in offers("score", tmp_path / "customers", table, *asked)[1]
    assert DeltaTable(table).version() == version
    write_deltalake(tmp_path / "customers", pa.Table.from_pandas(again[:1], preserve_index=False), mode="append")
    assert (
        "was begun with state 'version 1', and this run has 'version 2'"
        in (offers("score", tmp_path / "customers", table, *asked)[2])
    )
    assert offers("score", tmp_path / "customers", table, *asked, "--version", 1)[0] == 0
    assert "holds rows of another origin" in offers("score", tmp_path / "customers", tmp_path / "customers", *asked)[2]
    for name in ("other.delta", "absent.parquet"):
        code, _, complaint = offers("score", tmp_path / name, table, *asked, "--version", 1)
        assert (code, len(complaint.splitlines())) == (2, 1)
    shard = DeltaTable(tmp_path / "customers").file_uris()[0]
    for content, expected in (
        (frame[:1].drop(columns="spending"), "missing: spending"),
        (b"PAR1 half", "expected a whole file of the table, but it can't be read"),
    ):
        if isinstance(content, bytes):
            Path(shard).write_bytes(content)
        else:
            content.to_parquet(shard, index=False)
        code, _, complaint = offers("score", tmp_path / "customers", tmp_path / "new.delta", *asked)
        assert (code, expected in complaint, Path(shard).name in complaint) == (2, True, True)


def test_a_file_in_the_object_store_is_scored(
    offers: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shop_bundle: Path,
    catalogue: Path,
    customers: Path,
    s3: S3Double,
) -> None:
    s3.buckets["bank"]["customers.parquet"] = customers.read_bytes()
    for name, value in reaching(s3.settings).items():
        monkeypatch.setenv(name, value)
    asked = asking(shop_bundle, catalogue)
    assert offers("score", "s3://bank/customers.parquet", tmp_path / "out", *asked)[0] == 0
    assert offers("score", customers, tmp_path / "local", *asked)[0] == 0
    pd.testing.assert_frame_equal(scored(tmp_path / "out"), scored(tmp_path / "local"))


def test_delta_tables_of_an_object_store_at_both_ends(
    offers: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shop_bundle: Path,
    catalogue: Path,
    frame: pd.DataFrame,
) -> None:
    with seaweedfs(tmp_path) as store:
        connect(store).make_bucket("bank")
        for name, value in reaching(store).items():
            monkeypatch.setenv(name, value)
        tables = DeltaTables.at("s3://bank", Settings.from_env())
        tables.append("customers.delta", pa.Table.from_pandas(frame, preserve_index=False), "test", 1)
        asked = asking(shop_bundle, catalogue, 200)
        code, said, _ = offers("score", "s3://bank/customers.delta", "s3://bank/scored.delta", *asked)
        assert (code, f"{CUSTOMERS} customers" in said) == (0, True)
        assert len(tables.open("scored.delta").to_pyarrow_table()["customer"].unique()) > 300
    code, _, complaint = offers("score", "s3://bank/customers.delta", tmp_path / "out", *asked)
    assert (code, len(complaint.splitlines())) == (2, 1)


def reaching(store: S3Settings) -> dict[str, str]:
    return {
        "OFFERS_S3_ENDPOINT": f"http://{store.endpoint}",
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key.get_secret_value(),
        "AWS_REGION": "us-east-1",
    }


def test_a_password_of_a_database_stands_as_a_reference(
    offers: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shop_bundle: Path,
    catalogue: Path,
    frame: pd.DataFrame,
) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'bank.db'}")
    frame.to_sql("customers", engine, index=False)
    engine.dispose()
    monkeypatch.setenv("WAREHOUSE", f"sqlite:///{tmp_path / 'bank.db'}")
    asked = (*asking(shop_bundle, catalogue), "--query", "select * from customers order by rowid")
    assert offers("score", "${WAREHOUSE}", tmp_path / "out", *asked)[0] == 0
    assert "bank.db" not in (tmp_path / "out" / "manifest.json").read_text()


def test_killed_anywhere_it_goes_on_to_the_same_table(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path, shop_bundle: Path, catalogue: Path, customers: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert offers("score", customers, whole, *asking(shop_bundle, catalogue))[0] == 0
    code = (
        "import os, signal, sys\nfrom offers.batch import directory\nfrom cli.main import main\n"
        "settle, left = directory.settle, [int(sys.argv.pop(1))]\n"
        "def stop(path, write):\n"
        "    left[0] -= 1\n"
        "    if left[0] == 0:\n"
        "        path.with_name(f'.{path.name}.unfinished').write_bytes(b'PAR1 half')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    settle(path, write)\n"
        "directory.settle = stop\nmain()\n"
    )
    arguments = ["score", customers, killed, *asking(shop_bundle, catalogue)]
    for writes in (1, 4):
        command = [sys.executable, "-c", code, str(writes), *map(str, arguments)]
        done = subprocess.run(command, env=os.environ, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL
    code, said, _ = offers(*arguments)
    assert code == 0
    assert "(100 of them by an earlier run)" in said
    pd.testing.assert_frame_equal(scored(killed), scored(whole))
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_what_is_complete_stays_when_a_later_row_is_wrong(
    offers: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    shop_bundle: Path,
    catalogue: Path,
    customers: Path,
    frame: pd.DataFrame,
) -> None:
    frame.loc[120, "region"] = None
    frame.loc[120, "spending"] = -5
    frame.to_parquet(customers, index=False)
    code, _, complaint = offers("score", customers, tmp_path / "out", *asking(shop_bundle, catalogue))
    assert code == 2
    assert "column 'spending', row 121: expected at least 0, got -5.0" in complaint
    assert scored(tmp_path / "out")["customer"].isin(frame["customer_id"][:100]).all()
    assert not list((tmp_path / "out").glob("*.unfinished"))


def test_each_mistake_is_one_sentence(
    offers: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    shop_bundle: Path,
    catalogue: Path,
    customers: Path,
    frame: pd.DataFrame,
) -> None:
    def refused(*arguments: object) -> str:
        code, _, complaint = offers("score", *arguments, *asking(shop_bundle, catalogue))
        assert code == 2
        assert len(complaint.splitlines()) == 1
        return complaint

    out = tmp_path / "out"
    twice, foreign, torn = (tmp_path / name for name in ("twice.parquet", "foreign.parquet", "torn.parquet"))
    pd.concat([frame, frame[7:8]]).to_parquet(twice, index=False)
    assert "row 401: expected each customer once, got 'c7' again" in refused(twice, tmp_path / "twice")
    frame.drop(columns="visits").to_parquet(foreign, index=False)
    assert "missing: visits" in refused(foreign, out)
    torn.write_bytes(customers.read_bytes()[:-100])
    assert "expected a whole Parquet file" in refused(torn, out)
    assert "--customer names the column" in refused(customers, out, "--customer", "iban")
    assert not out.exists()
    assert offers("score", customers, out, *asking(shop_bundle, catalogue))[0] == 0
    assert "was begun with k 2, and this run has 1" in refused(customers, out, "--k", "1")
    assert "was begun with customers" in refused(twice, out)
    (out / "manifest.json").write_text("{")
    assert "is none of ours, or damaged" in refused(customers, out)
    (out / "manifest.json").unlink()
    assert "holds Parquet files of another origin" in refused(customers, out)
