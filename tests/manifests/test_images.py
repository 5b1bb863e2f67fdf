"""The images in a real engine: what is in them, a training run in them, and the two services that answer from them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from cli.traffic import send
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.data.validation import validate
from offers.decisions.records import DECISIONS, OUTCOMES
from offers.governance.release import make
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.ranker.question import example
from tests.support.containers import (
    DOCKERFILES,
    LOCKED_DOWN,
    MOST_MEGABYTES,
    Container,
    Pod,
    described,
    docker,
    pod,
)
from tests.support.runs import offers
from tests.support.sidecar import until
from tests.support.warranties import WARRANTIES

pytestmark = [pytest.mark.slow, pytest.mark.container]

TRAINING = """
import json, sys
from docker.types import Mount
from kfp import components, local

given = json.loads(sys.argv[1])
mounts = [Mount(path, path, type="bind", read_only=path not in given["written"]) for path in given["mounted"]]
runner = local.DockerRunner(
    user=given["user"], read_only=True, tmpfs={"/tmp": "mode=1777"}, network_mode="none", cap_drop=["ALL"],
    security_opt=["no-new-privileges"], mounts=mounts,
)
local.init(runner, pipeline_root=given["root"])
components.load_component_from_file(given["package"])(**given["arguments"])
"""


@pytest.fixture(params=sorted(DOCKERFILES))
def image(images: dict[str, str], request: pytest.FixtureRequest) -> str:
    return images[request.param]


def test_the_size_is_within_its_limit(image: str) -> None:
    assert described(image)["Size"] <= MOST_MEGABYTES[image.partition(":")[0]] * 1e6


def test_the_image_tells_where_it_comes_from_and_nothing_of_how_it_was_built(image: str) -> None:
    config = described(image)["Config"]
    assert config["Labels"]["org.opencontainers.image.revision"] == image.partition(":")[2]
    assert f"OFFERS_GIT_COMMIT={image.partition(':')[2]}" in config["Env"]
    user, group = config["User"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    told = json.dumps(config) + docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert "PIP_INDEX_URL" not in told


def test_no_tool_of_the_build_is_left(image: str) -> None:
    search = """
for tool in cc gcc g++ make pip pip3 uv git curl; do command -v $tool; done
find / -xdev -perm /6000 -type f 2>/dev/null
find /root /var/cache /var/lib/apt/lists -type f -path '*cache*' 2>/dev/null
python -c 'import importlib.util; print("pip" if importlib.util.find_spec("pip") else "", end="")'
"""
    assert docker("run", "--rm", *LOCKED_DOWN, "--network=none", image, "sh", "-c", search) == ""


@pytest.fixture(scope="module")
def source() -> str:
    if path := os.environ.get("OFFERS_DATA_DIR"):
        return str(Path(path, "bank-additional-full.csv").resolve())
    return "simulated"


def test_training_in_containers_gives_the_bundle_of_a_local_run(
    images: dict[str, str], source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("docker", reason="kfp's DockerRunner needs the package 'docker'")
    package, root, stored = tmp_path / "training.yaml", tmp_path / "root", tmp_path / "stored"
    for directory in (root, stored):
        directory.mkdir()
        directory.chmod(0o777)
    compiling = os.environ | {"OFFERS_PIPELINE_IMAGE": images["offers-pipeline-python"]}
    cli = Path(sys.executable).parent / "offers"
    subprocess.run([cli, "pipeline", "compile", package], env=compiling, check=True, capture_output=True)
    given = {
        "user": f"{os.getuid()}:{os.getgid()}" if os.getuid() else "10001:10001",
        "package": str(package),
        "root": str(root),
        "mounted": [str(stored), *([source] if Path(source).is_absolute() else [])],
        "written": [str(stored)],
        "arguments": {"contract": "bank-marketing", "source": source, "publish": str(stored)},
    }
    ran = subprocess.run(
        [sys.executable, "-c", TRAINING, json.dumps(given)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.setenv("OFFERS_GIT_COMMIT", images["offers-pipeline-python"].partition(":")[2])
    # Containers know nothing of it, and other kernels of linear algebra give other last bits.
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    done = offers(here, "pipeline", "run", "--source", source)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in stored.iterdir()] == [path.name for path in (here / "bundles").iterdir()]


@pytest.fixture(scope="module")
def running(images: dict[str, str], shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    directory = tmp_path_factory.mktemp("pod")
    release = make(tmp_path_factory.mktemp("releases"), shop_bundle, WARRANTIES)
    with pod(images, release.path, directory) as found:
        yield found


@pytest.fixture(params=["predictor", "ranker", "drift", "shipper"])
def one(running: Pod, request: pytest.FixtureRequest) -> Container:
    found: Container = getattr(running, request.param)
    return found


def test_the_pair_answers_a_customer(running: Pod, shop_bundle: Path) -> None:
    question = example(contracts.parse((shop_bundle / "contract.yaml").read_text("utf-8")))
    answer = httpx.post(f"{running.url(8080)}/v1/models/offers:predict", json=question, timeout=30)
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    assert prediction["versions"]["model"] == shop_bundle.name
    assert not prediction["fallback"]
    assert [offer["rank"] for offer in prediction["offers"]] == list(range(1, len(prediction["offers"]) + 1))
    assert prediction["offers"]
    observed_at = datetime.now(UTC).isoformat()
    accepted = {"decision_id": prediction["decision_id"], "kind": "accepted", "observed_at": observed_at}
    told = httpx.post(f"{running.url(8080)}/v1/outcomes", json={"outcomes": [accepted]}, timeout=30)
    assert told.status_code == 200, told.text
    tables = DeltaTables.at(str(running.tables), Settings())

    def shipped(name: str) -> list[str]:
        if not tables.holds(name):
            return []
        ids: list[str] = tables.open(name).to_pyarrow_table()["decision_id"].to_pylist()
        return ids

    until(lambda: shipped(OUTCOMES), lambda ids: accepted["decision_id"] in ids)
    assert shipped(DECISIONS).count(accepted["decision_id"]) == 1


def test_the_predictor_reproduces_the_golden_rows(running: Pod, shop_bundle: Path) -> None:
    content = json.loads((shop_bundle / "golden.json").read_text("utf-8"))
    question = {"instances": content["rows"]}
    answer = httpx.post(f"{running.url(8085)}/v1/models/offers:predict", json=question, timeout=30)
    assert answer.json()["predictions"] == pytest.approx(content["propensity"], abs=1e-6)
    assert running.predictor.bound["models"] == {"offers": shop_bundle.name}


def test_customers_who_have_changed_raise_an_alarm(
    running: Pod, shop_bundle: Path, shop_contract: Contract, shop_rows: Callable[..., pd.DataFrame]
) -> None:
    asked = validate(shop_rows(1000), shop_contract).frame
    asked = asked[asked["visits"] > 0]
    richer = asked.assign(spending=asked["spending"] + 2000)

    def ask(rows: pd.DataFrame, windows: int) -> dict[str, Any]:
        before = watched()["windows"]
        while watched()["windows"] < before + windows:
            send(running.url(8080), shop_contract, rows[:500])
        return watched()

    def watched() -> dict[str, Any]:
        report: dict[str, Any] = httpx.get(f"{running.url(8090)}/report", timeout=30).json()
        return report

    assert ask(asked, 1)["alarms"] == []
    ask(richer, shop_contract.watch.consecutive + 1)
    until(watched, lambda report: any(alarm["delivered"] for alarm in report["alarms"]))
    alarm = json.loads(running.sink.said())
    assert alarm["data"]["bundle"] == shop_bundle.name
    columns = {column["name"]: column for column in alarm["data"]["window"]["columns"]}
    assert columns["spending"]["breached"]


def test_each_runs_as_nobody_in_particular(one: Container) -> None:
    assert docker("exec", one.name, "id", "-u").strip() == "10001"
    refused = subprocess.run(["docker", "exec", one.name, "touch", "/opt/x"], capture_output=True, check=False)
    assert refused.returncode != 0


@pytest.mark.parametrize(("name", "service"), [("offers-serving", "predictor"), ("offers-drift", "drift")])
def test_the_health_check_of_the_image_tells_the_truth(
    running: Pod, images: dict[str, str], name: str, service: str
) -> None:
    check = described(images[name])["Config"]["Healthcheck"]["Test"][1:]
    docker("exec", getattr(running, service).name, *check)
    alone = subprocess.run(
        ["docker", "run", "--rm", *LOCKED_DOWN, images[name], *check], capture_output=True, check=False
    )
    assert alone.returncode != 0
