from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from offers.batch.customers import CustomerSchema
from offers.batch.source import open_customers
from offers.batch.spark import find_java
from offers.contract.contract import Contract
from offers.errors import ServiceError
from offers.settings import Settings

ROWS, GROUP = 200_000, 10_000


def test_bytes_of_rows_that_were_read_are_not_kept(tmp_path: Path, shop_contract: Contract) -> None:
    values = np.random.default_rng(0).random(ROWS)
    numbers = dict.fromkeys(("spending", "visits", "member", "rating"), values)
    path = tmp_path / "customers.parquet"
    rows = pa.table({"customer_id": np.arange(ROWS), "region": ["north"] * ROWS, **numbers})
    parquet.write_table(rows, path, row_group_size=GROUP, use_dictionary=False)
    del rows
    source = open_customers(str(path), CustomerSchema(shop_contract, "customer_id"), Settings())
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in source.batches(GROUP)]
    assert max(held) < path.stat().st_size / 2


@pytest.mark.parametrize("home", ["", "/nowhere"])
def test_java_that_is_not_there_is_named(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", home)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match=f"Spark needs Java 17 or newer, and .*{home or 'no program'}"):
        find_java()
