"""Customers scored by a real Spark, held against the loop's table."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from deltalake import write_deltalake

from offers.batch.order import Options, Order
from tests.support.runs import ShopRun
from tests.support.warranties import WARRANTIES

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-spark" / "bin" / "python"
CUSTOMERS = 900
KEY = "customer.id"
"""Spark would take the dot for a field of a structure."""
READ = "select * exclude (reasons) from read_parquet('{}/**/*.parquet') order by customer, rank"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"{PYTHON} is not there: 'make spark' installs Spark"),
    pytest.mark.skipif(not shutil.which("java"), reason="there is no Java, which Spark needs"),
]


def frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            KEY: [f"c{number}" for number in range(CUSTOMERS)],
            "spending": generator.uniform(0, 2000, CUSTOMERS).round(2),
            "visits": generator.integers(0, 20, CUSTOMERS),
            "region": generator.choice(["north", "south"], CUSTOMERS),
            "member": generator.choice([0, 1], CUSTOMERS),
            "rating": np.where(generator.random(CUSTOMERS) < 0.1, np.nan, 3.5),
        }
    )


def directory(path: Path, rows: pd.DataFrame) -> Path:
    path.mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(rows)), 3)):
        rows.iloc[part].to_parquet(path / f"{number}.parquet", index=False)
    return path


def test_spark_scores_as_the_loop_does(
    tmp_path: Path, shop_bundle: Path, offers: Callable[..., tuple[int, str, str]]
) -> None:
    catalogue, loop = tmp_path / "warranties.yaml", tmp_path / "loop"
    catalogue.write_text(WARRANTIES)
    rows = frame()
    rows.to_parquet(tmp_path / "whole.parquet", index=False)
    common = ["--bundle", shop_bundle, "--catalogue", catalogue, "--customer", KEY]
    code, _, error = offers("score", tmp_path / "whole.parquet", loop, *common)
    assert (code, error) == (0, "")

    plain = directory(tmp_path / "plain", rows)
    write_deltalake(str(tmp_path / "customers.delta"), rows)
    twice = directory(tmp_path / "twice", pd.concat([rows, rows[7:8]]))
    wrong = directory(tmp_path / "wrong", rows.assign(member=rows["member"].where(rows.index != 500, 7)))
    narrow = directory(tmp_path / "narrow", rows.drop(columns="visits"))

    def order(customers: Path, output: str) -> str:
        options = Options(customer=KEY, rows=150)
        places = {"customers": str(customers), "output": str(tmp_path / output), "catalogue": WARRANTIES}
        return Order(bundle=str(shop_bundle), **places, options=options).model_dump_json()

    orders = (
        order(plain, "table"),
        order(tmp_path / "customers.delta", "table.delta"),
        order(twice, "other"),
        order(wrong, "broken"),
        order(narrow, "narrow-table"),
        order(tmp_path / "nowhere", "nothing"),
        str(tmp_path / "table"),
        order(plain, "table"),
        order(wrong, "table"),
    )
    command = [str(PYTHON), str(ROOT / "tests" / "support" / "spark_cases.py"), *orders]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    first, delta, repeated, broken, missing, absent, again, changed = said
    assert (first[:2], delta[:2]) == ([CUSTOMERS, 0], [CUSTOMERS, 0])
    expected = duckdb.sql(READ.format(loop)).df()
    for table in ("table", "table.delta"):
        pd.testing.assert_frame_equal(duckdb.sql(READ.format(tmp_path / table)).df(), expected)
    assert "column 'customer.id': expected each customer once, got 'c7' 2 times; leave repeats out" in repeated
    assert "column 'member', row " in broken
    assert "expected yes or no, got 7" in broken
    assert missing == f"DataError: {narrow}: expected the customers' columns of contract shop; missing: visits"
    assert absent.startswith(f"SourceError: {tmp_path / 'nowhere'}: expected Parquet or a Delta table")
    assert again[0] == CUSTOMERS
    assert CUSTOMERS - 150 <= again[1] < CUSTOMERS
    assert "was begun with customers" in changed


def test_trees_that_spark_trains_score_as_those_of_one_process(tmp_path: Path, shop_run: ShopRun) -> None:
    contract = tmp_path / "shop.yaml"
    contract.write_text(shop_run.text)
    command = [str(PYTHON), str(ROOT / "tests" / "support" / "spark_training.py"), str(contract), str(shop_run.gold)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["correlation"] > 0.95
    theirs, ours = result["areas"]
    assert abs(theirs - ours) < 0.02
