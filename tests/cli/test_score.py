"""offers score, in this process and killed in others."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy
from pyarrow import parquet

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


def test_killed_anywhere_it_goes_on_to_the_same_table(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path, shop_bundle: Path, catalogue: Path, customers: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert offers("score", customers, whole, *asking(shop_bundle, catalogue))[0] == 0
    code = (
        "import os, signal, sys\nfrom offers.batch import parts\nfrom cli.main import main\n"
        "settle, left = parts._settle, [int(sys.argv.pop(1))]\n"
        "def stop(path, write):\n"
        "    left[0] -= 1\n"
        "    if left[0] == 0:\n"
        "        path.with_name(f'.{path.name}.unfinished').write_bytes(b'PAR1 half')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    settle(path, write)\n"
        "parts._settle = stop\nmain()\n"
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
