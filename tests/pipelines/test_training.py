import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from offers.bundle import bundle as bundles
from pipelines import local
from pipelines.compilation import compile_pipeline
from tests.support.http_double import FileServer
from tests.support.runs import ShopRun, offers

CANARIES = ("c4nary/p@ss", "c4nary+sig=")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("same_commit")]


def test_the_command_runs_the_graph_to_the_bundle_that_the_library_makes(shop_run: ShopRun, tmp_path: Path) -> None:
    done = offers(tmp_path, "pipeline", "run", "--contract", shop_run.contract_file, "--source", shop_run.csv)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == [shop_run.bundle.name]
    assert bundles.load(tmp_path / "bundles" / shop_run.bundle.name).verdict.passed
    run = next((tmp_path / "runs").iterdir())
    assert "<html" in (run / "report.html").read_text().lower()
    assert str(run / "report.html") in done.stdout
    for step in ("ingest", "validate", "prepare", "train", "evaluate", "gate", "package"):
        assert f"✓ {step}" in done.stdout
    assert "Executing task" in (run / "kfp.log").read_text()
    assert "Executing task" not in done.stdout
    # What came to this bundle is the very file that a cluster is given.
    assert offers(tmp_path, "pipeline", "compile", tmp_path / "training.yaml").returncode == 0
    assert (tmp_path / "training.yaml").read_bytes() == (run / "pipeline.yaml").read_bytes()


def test_broken_rows_stop_the_run_and_leave_earlier_results(shop_run: ShopRun, tmp_path: Path) -> None:
    earlier = tmp_path / "bundles" / "earlier"
    earlier.mkdir(parents=True)
    broken = tmp_path / "orders.csv"
    broken.write_text(shop_run.csv.read_text().replace(";web;", ";fax;", 3))
    done = offers(tmp_path, "pipeline", "run", "--contract", shop_run.contract_file, "--source", broken)
    assert done.returncode == 2
    assert "column 'channel', row" in done.stderr
    assert "expected one of mail, phone, web, got 'fax' (3 rows)" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    page = next((tmp_path / "runs").iterdir()) / "violations.html"
    assert "fax" in page.read_text()
    assert list((tmp_path / "bundles").iterdir()) == [earlier]


@pytest.fixture
def duel(shop_run: ShopRun, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Let a contract's candidate meet the shop's bundle."""
    champion = "--source", shop_run.csv, "--champion", shop_run.bundle

    def duel(text: str) -> subprocess.CompletedProcess[str]:
        contract = tmp_path / "shop.yaml"
        contract.write_text(text + "  - {metric: auc, not_worse_than_champion_by: 0.02}\n")
        return offers(tmp_path, "pipeline", "run", "--contract", contract, *champion)

    return duel


@pytest.fixture(scope="module")
def challenged(
    shop_run: ShopRun, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A run of the shop's recipe against the shop's bundle, on rows of a server that asks for two secrets."""
    home, secrets = tmp_path_factory.mktemp("challenged"), tmp_path_factory.mktemp("secrets")
    (secrets / "sig").write_text(CANARIES[1] + "\n")
    rival = "  - {metric: auc, not_worse_than_champion_by: 0.02}\n"
    with FileServer(content=shop_run.csv.read_bytes()) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY_PASSWORD", CANARIES[0])
        uri = server.url.replace("//", "//me:${CANARY_PASSWORD}@") + f"?sig=${{file:{secrets}/sig}}"
        (home / "shop.yaml").write_text(shop_run.text.replace("source:\n", f'source:\n  uri: "{uri}"\n') + rival)
        done = offers(home, "pipeline", "run", "--contract", home / "shop.yaml", "--champion", shop_run.bundle)
        assert server.seen[0]["Authorization"] == "Basic " + base64.b64encode(f"me:{CANARIES[0]}".encode()).decode()
    return done, home


def test_no_file_or_line_of_a_run_holds_the_secrets_of_its_source(
    challenged: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, home = challenged
    texts = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    texts |= {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    for name in ("report.html", "kfp.log", "model-card.md", "manifest.json", "pipeline.yaml", "provenance.json"):
        assert any(path.endswith(name) for path in texts), name
    forms = {form.encode() for canary in CANARIES for form in (canary, quote(canary, safe=""))}
    assert [(path, form) for path, content in texts.items() for form in forms if form in content] == []
    assert any(b"${CANARY_PASSWORD}" in content for content in texts.values())


def test_challenger_meets_champion(
    challenged: tuple[subprocess.CompletedProcess[str], Path], shop_run: ShopRun
) -> None:
    done, home = challenged
    assert done.returncode == 0, done.stdout + done.stderr
    comparison = bundles.load(next((home / "bundles").iterdir())).evaluation.champion
    assert comparison is not None
    assert comparison.champion == shop_run.bundle.name
    # The same recipe on the same rows: no difference at all.
    assert comparison.differences["auc"].value == comparison.differences["auc"].low == 0.0


def test_a_challenger_that_is_refused_is_not_packaged(
    duel: Callable[[str], subprocess.CompletedProcess[str]], shop_run: ShopRun, tmp_path: Path
) -> None:
    done = duel(shop_run.text.replace("trees: 20, depth: 3", "trees: 1, depth: 1"))
    assert done.returncode == 3
    assert "FAILED" in done.stdout
    assert "no bundle was made" in done.stdout
    run = next((tmp_path / "runs").iterdir())
    assert (run / "report.html").exists()
    assert local.LocalRun(run).artifact("package", "bundle") is None
    assert not (tmp_path / "bundles").exists()


def test_steps_hand_on_what_kubeflow_shows(tmp_path: Path) -> None:
    spec = next(yaml.safe_load_all(compile_pipeline("training", tmp_path / "training.yaml").read_text()))
    outputs = {
        name.removeprefix("comp-"): {
            artifact: kind["artifactType"]["schemaTitle"].removeprefix("system.")
            for artifact, kind in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        }
        for name, component in spec["components"].items()
        if "executorLabel" in component
    }
    assert outputs["validate"]["violations"] == "HTML"
    assert outputs["evaluate"] == {"curves": "ClassificationMetrics", "evaluation": "Artifact", "figures": "Metrics"}
    assert outputs["gate"] == {"report": "HTML", "rules": "Markdown", "verdict": "Artifact"}
    condition = spec["components"]["comp-condition-1"]["dag"]["tasks"]
    assert set(condition) == {"package", "condition-2"}
    assert set(spec["components"]["comp-condition-2"]["dag"]["tasks"]) == {"condition-3"}
    assert set(spec["components"]["comp-condition-3"]["dag"]["tasks"]) == {"promote"}
    images = {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
    assert len(images) == 1
    assert "pip install" not in json.dumps(spec["deploymentSpec"])
