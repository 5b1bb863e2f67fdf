"""offers score, killed by SIGKILL at random moments and started again."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable

from tests.support.warranties import WARRANTIES

CUSTOMERS = 200

# One process imports everything, and forks the runs: what is measured out by chance is their work, not their imports.
FORKS = """
import os, random, signal, sys, time
import deltalake, sqlalchemy
from cli.main import main
from offers.batch import delta, directory, parts, scoring, source
from offers.bundle import bundle

kills, place, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
chance = random.Random(0)

def begun(where):
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["offers", "score", arguments[0], where, *arguments[1:]]
        try:
            main()
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    return child

began = time.monotonic()
assert os.waitpid(begun(place.format(0)), 0)[1] == 0
span, number = time.monotonic() - began, 1
while kills:
    child = begun(place.format(number))
    time.sleep(chance.uniform(0, span))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        kills -= 1
    else:
        assert status == 0
        number += 1
assert os.waitpid(begun(place.format(number)), 0)[1] == 0
print(number)
"""


@pytest.mark.parametrize(
    ("kind", "kills"),
    [("delta", 5), *(pytest.param(kind, 25, marks=pytest.mark.nightly) for kind in ("delta", "parts"))],
)
def test_whenever_it_is_killed_the_table_is_the_same(tmp_path: Path, shop_bundle: Path, kind: str, kills: int) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{number}" for number in range(CUSTOMERS)],
            "spending": generator.uniform(0, 2000, CUSTOMERS).round(2),
            "visits": generator.integers(1, 20, CUSTOMERS),
            "region": "north",
            "member": 1,
            "rating": 3.5,
        }
    )
    frame.to_parquet(tmp_path / "customers.parquet", index=False)
    catalogue = tmp_path / "warranties.yaml"
    catalogue.write_text(WARRANTIES)
    where = tmp_path / ("{}.delta" if kind == "delta" else "{}")
    asked = [tmp_path / "customers.parquet", "--bundle", shop_bundle, "--catalogue", catalogue, "--rows", 20]
    command = [sys.executable, "-c", FORKS, kills, where, *asked, "--threads", 1]
    environment = os.environ | {"OFFERS_HOME": str(tmp_path / "home")}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    places = [Path(str(where).format(number)) for number in range(int(done.stdout) + 1)]
    whole = rows(places[0])
    assert len({row[0] for row in whole}) == CUSTOMERS
    for place in places[1:]:
        assert rows(place) == whole
        assert not list(place.glob(".*.unfinished"))


def rows(place: Path) -> list[tuple[object, ...]]:
    files = DeltaTable(place).file_uris() if place.suffix else list(map(str, place.glob("part-*.parquet")))
    query = f"select customer, rank, offer, score from read_parquet({files}) order by customer, rank"
    return duckdb.sql(query).fetchall()
