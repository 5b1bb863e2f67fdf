"""How runs on a cluster have ended, as the journal tells it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.training import IMAGE
from offers.bundle import bundle as bundles
from offers.retraining.journal import Decision, Journal, Outcome, Request
from offers.settings import Settings
from offers.store.s3 import S3Store, connect
from pipelines import starting
from pipelines.kubeflow import Kubeflow
from pipelines.starting import ClusterRuns
from tests.support.kubeflow_double import KubeflowDouble
from tests.support.ledgers import journal_at
from tests.support.s3_double import S3Double

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def kubeflow() -> Iterator[KubeflowDouble]:
    with KubeflowDouble() as double:
        yield double


@pytest.fixture
def runs(kubeflow: KubeflowDouble, s3: S3Double, tmp_path: Path) -> ClusterRuns:
    s3.buckets["mlpipeline"] = {}
    settings = Settings(home=tmp_path, kubeflow=kubeflow.url, s3=s3.settings)
    return ClusterRuns(settings, {"contract": "bank-marketing", "publish": "s3://offers/bundles/"})


def begun(journal: Journal, kubeflow: KubeflowDouble, recorded: str) -> str:
    """A run of the journal that a real Kubeflow has told of; gives its name."""
    run = json.loads((RECORDED / f"run-{recorded}.json").read_text("utf-8"))
    kubeflow.runs.append(run)
    name = str(run["display_name"])
    asked = Request(id=name, contract=journal.contract, cause="alarm")
    decision = Decision(at=datetime.now(UTC), request=asked, started=True, reason="drift was seen", run=name)
    journal.decide(asked, lambda history: decision)
    return name


@pytest.mark.parametrize(
    ("recorded", "step", "said", "end"),
    [
        ("succeeded", "package", "offers: bundle bank-marketing-1", (True, "s3://offers/bundles/bank-marketing-1", "")),
        ("succeeded", "", "", (True, "", "")),
        (
            "gate-refused",
            "gate",
            "offers: failed: auc at least 0.99",
            (True, "", "the gate refused the new model; the present one stays; failed: auc at least 0.99"),
        ),
        ("failed-source", "ingest", "offers: stopped: no such file", (False, "", "ingest: no such file")),
        ("failed-killed", "", "", (False, "", "validate failed")),
        ("terminated", "", "", (False, "", "somebody stopped it")),
    ],
)
def test_each_end_is_written_with_its_reason(
    kubeflow: KubeflowDouble,
    s3: S3Double,
    runs: ClusterRuns,
    tmp_path: Path,
    recorded: str,
    step: str,
    said: str,
    end: tuple[bool, str, str],
) -> None:
    journal = journal_at(tmp_path / "journal", "bank-marketing")
    name = begun(journal, kubeflow, recorded)
    if step:
        place = f"v2/artifacts/offers-training/{kubeflow.runs[0]['run_id']}/{step}/1f"
        S3Store(connect(s3.settings), "mlpipeline", place).write_bytes("executor-logs-0", f"{said}\n".encode())
    runs.settle(journal)
    runs.settle(journal)
    _, outcome = journal.entries()
    assert isinstance(outcome, Outcome)
    assert (outcome.run, outcome.succeeded, outcome.bundle, outcome.note) == (name, *end)
    assert not outcome.lost


def test_a_run_that_kubeflow_lost_is_marked(kubeflow: KubeflowDouble, runs: ClusterRuns, tmp_path: Path) -> None:
    journal = journal_at(tmp_path / "journal", "bank-marketing")
    begun(journal, kubeflow, "failed-source")
    for task in kubeflow.runs[0]["run_details"]["task_details"]:
        if task["display_name"] == "ingest-driver":
            task["state"] = "FAILED"
    runs.settle(journal)
    _, outcome = journal.entries()
    assert isinstance(outcome, Outcome)
    assert outcome.lost
    assert outcome.note == "Kubeflow's own task ingest-driver failed, and no step of ours"


def test_a_run_under_way_and_one_that_is_unknown_are_left(
    kubeflow: KubeflowDouble, runs: ClusterRuns, tmp_path: Path
) -> None:
    journal = journal_at(tmp_path / "journal", "bank-marketing")
    begun(journal, kubeflow, "succeeded")
    kubeflow.runs[0]["state"] = "RUNNING"
    runs.settle(journal)
    kubeflow.runs.clear()
    runs.settle(journal)
    assert len(journal.entries()) == 1


def test_a_new_image_is_compared_and_deployed_nowhere(
    kubeflow: KubeflowDouble, s3: S3Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(
        Kubeflow, "submit", lambda self, package, arguments, run: submitted.append((package.read_text(), arguments))
    )
    arguments = {"contract": "shop", "publish": "s3://offers/bundles", "service": "offers/offers"}
    runs = ClusterRuns(Settings(home=tmp_path, kubeflow=kubeflow.url, s3=s3.settings), arguments)
    evidence = {"image": "ghcr.io/bank/offers:2", "bundle": "shop-1"}
    runs(Request(id="image", contract="shop", cause="new image", evidence=evidence), "retrain-shop-1")
    runs(Request(id="other", contract="shop", cause="manual"), "retrain-shop-2")
    (first, asked), (second, plain) = submitted
    assert first.count("image: ghcr.io/bank/offers:2\n") == second.count(f"image: {IMAGE}\n") > 0
    assert f"image: {IMAGE}\n" not in first
    assert asked == arguments | {"champion": "s3://offers/bundles/shop-1", "service": "", "source": ""}
    assert plain == arguments


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("layers:s3://bank/layers", "layers:s3://bank/layers@3"),
        (
            "layers:s3://bank/layers + decisions:s3://bank/tables",
            "layers:s3://bank/layers@3 + decisions:s3://bank/tables",
        ),
        ("layers:s3://bank/layers@7", "layers:s3://bank/layers@7"),
        ("orders.csv", "orders.csv"),
    ],
)
def test_a_new_image_learns_from_the_gold_of_the_champion(
    source: str, asked: str, shop_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "shop-0123456789abcdef"
    trained = bundles.load(shop_bundle)
    data = trained.manifest.data.model_copy(update={"origin": "layers:s3://bank/layers@3"})
    champion = replace(trained, manifest=trained.manifest.model_copy(update={"data": data}))
    monkeypatch.setattr(starting, "open_bundle", lambda where, settings: {str(bundle): champion}[where])
    request = Request(id="image", contract="shop", cause="new image", evidence={"image": "i:2", "bundle": bundle.name})
    pipeline, arguments = starting._asked(request, {"source": source, "publish": str(tmp_path)}, Settings())
    assert (pipeline, arguments["source"], arguments["champion"]) == ("training", asked, str(bundle))
