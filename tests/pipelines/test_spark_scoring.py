"""The scoring pipeline on Spark: what Kubeflow is told of it, and the same graph on this machine with a real Spark."""

import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml

from offers.batch.order import Options, Order, opened
from offers.settings import Settings
from offers.steps import scoring
from offers.steps.spark_scoring import PYTHON
from pipelines import local
from pipelines.compilation import compile_pipeline
from tests.support.warranties import WARRANTIES

READ = "select * exclude (reasons) from read_parquet('{}/**/*.parquet') order by customer, rank"


def test_the_step_between_plan_and_summary_waits_for_the_operator(tmp_path: Path) -> None:
    spec, platform = yaml.safe_load_all(
        compile_pipeline("score-spark", tmp_path / "score.yaml", "images/p:1").read_text()
    )
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {"plan", "score", "summarise"}
    assert tasks["plan"]["inputs"]["parameters"]["shards"] == {"runtimeValue": {"constant": 1.0}}
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["master"]["defaultValue"] == ""
    assert parameters["image"]["defaultValue"].startswith("offers-spark:")
    places = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    seconds = tasks["score"]["inputs"]["parameters"]["seconds"]["runtimeValue"]["constant"]
    assert seconds < int(places["exec-score"]["activeDeadlineSeconds"])


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason=f"{PYTHON} is not there: 'make spark' installs Spark")
@pytest.mark.skipif(not shutil.which("java"), reason="there is no Java, which Spark needs")
def test_the_graph_on_this_machine_makes_a_table_and_a_report(tmp_path: Path, shop_bundle: Path) -> None:
    generator, customers = np.random.default_rng(0), tmp_path / "customers.parquet"
    frame = pd.DataFrame(
        {
            "customer_id": np.arange(300),
            "spending": generator.uniform(0, 2000, 300).round(2),
            "visits": generator.integers(0, 20, 300),
            "region": generator.choice(["north", "south"], 300),
            "member": generator.choice([0, 1], 300),
            "rating": 3.5,
        }
    )
    frame.to_parquet(customers, index=False)
    order = Order(
        bundle=str(shop_bundle),
        customers=str(customers),
        output=str(tmp_path / "table"),
        catalogue=WARRANTIES,
        options=Options(k=2),
    )
    arguments = scoring.arguments(order, 1) | {"master": "local[1]"}
    del arguments["shards"]
    outcome = local.run(compile_pipeline("score-spark", tmp_path / "score.yaml"), arguments, tmp_path / "run")
    assert outcome.succeeded, outcome.log.read_text("utf-8")[-3000:]
    loop = order.model_copy(update={"output": str(tmp_path / "loop")})
    assert opened(loop, Settings()).run(Settings(), lambda _: None).customers == 300
    tables = [duckdb.sql(READ.format(tmp_path / name)).df() for name in ("table", "loop")]
    pd.testing.assert_frame_equal(*tables)
