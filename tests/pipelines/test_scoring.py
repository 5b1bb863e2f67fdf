"""The scoring pipeline: what Kubeflow is told of it, and the same graph on this machine, where a shard is killed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pyarrow import parquet

from cli.submission import _arguments
from offers.errors import StorageError
from pipelines.compilation import compile_pipeline
from tests.support.warranties import WARRANTIES

KILLS = """\
import os, signal, sys
if "offers.steps.scoring" in sys.orig_argv:
    from pathlib import Path
    from offers.batch import directory
    settle, marker = directory.settle, Path(__file__).with_name("killed")
    def stop(path, write):
        if path.name == "part-000004.parquet" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        settle(path, write)
    directory.settle = stop
"""
"""For Python's own start: the process of a shard is killed once, when it is about to write its second part."""


def test_shards_are_a_loop_over_the_plan_within_limits(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    file = tmp_path / "score.yaml"
    assert offers("pipeline", "compile", file, "--pipeline", "score")[0] == 0
    assert file.read_bytes() == compile_pipeline("score", tmp_path / "again.yaml").read_bytes()
    spec, platform = yaml.safe_load_all(file.read_text())
    tasks = spec["root"]["dag"]["tasks"]
    loop = next(task for name, task in tasks.items() if name.startswith("for-loop"))
    assert loop["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--plan-Output"}
    assert loop["iteratorPolicy"] == {"parallelismLimit": 8}
    assert "plan" in loop["dependentTasks"]
    assert set(tasks["summarise"]["dependentTasks"]) == {"plan", loop["componentRef"]["name"].removeprefix("comp-")}
    steps = {"exec-plan", "exec-score", "exec-summarise"}
    executors = spec["deploymentSpec"]["executors"]
    assert set(executors) == steps
    for executor in executors.values():
        assert executor["container"]["resources"]["resourceMemoryLimit"] == "2Gi"
        assert executor["container"]["resources"]["resourceCpuLimit"] == "2"
    places = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert places["exec-score"]["activeDeadlineSeconds"] == str(240 * 60)
    readers = {name for name, place in places.items() if "secretAsVolume" in place}
    assert readers == {"exec-plan", "exec-score"}
    assert offers("pipeline", "compile", file, "--pipeline", "scoring")[0] == 2


def test_a_cluster_is_given_places_that_its_pods_reach(tmp_path: Path) -> None:
    (tmp_path / "warranties.yaml").write_text(WARRANTIES)
    options = {"publish": "", "source": ""}
    places = {"bundle": "s3://bank/bundles/shop-0123456789abcdef", "output": "s3://bank/scored.delta"}
    more = [f"{name}={where}" for name, where in places.items()]
    catalogue = f"catalogue={tmp_path / 'warranties.yaml'}"
    asked = [*more, catalogue, "customers=s3://bank/customers.delta", "shards=8", "options={k: 2}"]
    name, arguments = _arguments("score", "bank-marketing", dict(options), asked)
    assert name == "score-bank-marketing"
    customers = {"customers": "s3://bank/customers.delta", "catalogue": WARRANTIES}
    assert arguments == places | customers | {"shards": 8, "options": "{k: 2}"}
    with pytest.raises(StorageError, match="expected s3://, http"):
        _arguments("score", "bank-marketing", dict(options), [*more, "customers=/data/customers.parquet"])
    _, arguments = _arguments("score", "bank-marketing", dict(options), [*asked, "bundle=champion:shop"])
    assert arguments["bundle"] == "champion:shop"
    with pytest.raises(StorageError, match="--output 'scored'"):
        _arguments("score", "bank-marketing", dict(options), [*asked, "output=scored"])


@pytest.mark.slow
def test_the_graph_on_this_machine_makes_the_table_of_one_run_though_a_shard_is_killed(
    offers: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shop_bundle: Path
) -> None:
    generator, customers, catalogue = np.random.default_rng(0), tmp_path / "customers.parquet", tmp_path / "w.yaml"
    columns = {
        "customer_id": [f"c{number}" for number in range(400)],
        "spending": generator.uniform(0, 2000, 400).round(2),
        "visits": generator.integers(0, 20, 400),
        "region": generator.choice(["north", "south"], 400),
        "member": generator.choice([0, 1], 400),
        "rating": np.full(400, 3.5),
    }
    pd.DataFrame(columns).to_parquet(customers, index=False)
    catalogue.write_text(WARRANTIES)
    asked = "--bundle", shop_bundle, "--catalogue", catalogue, "--rows", 100
    assert offers("score", customers, tmp_path / "whole", *asked)[0] == 0
    start = tmp_path / "start"
    start.mkdir()
    (start / "sitecustomize.py").write_text(KILLS)
    monkeypatch.setenv("PYTHONPATH", str(start))
    code, said, _ = offers("score", customers, tmp_path / "parts", *asked, "--shards", 2)
    assert code == 0, said
    assert (start / "killed").exists()
    run = next((tmp_path / "home" / "runs").iterdir())
    log = (run / "kfp.log").read_text()
    assert "the shard's process was killed by SIGKILL" in log
    assert "shard 2 of 2: 200 customers (100 of them by an earlier run), 2 parts" in log
    assert "400 customers, " in said
    assert "Get it first" in (run / "report.html").read_text()
    for path in sorted((tmp_path / "whole").glob("part-*.parquet")):
        assert parquet.read_table(tmp_path / "parts" / path.name).equals(parquet.read_table(path))
