"""Runs through the official client of Kubeflow Pipelines, against a double that speaks its wire format."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.errors import ServiceError
from pipelines.compilation import compile_pipeline
from pipelines.kubeflow import Kubeflow
from tests.support.http_double import FileServer
from tests.support.kubeflow_double import API, KubeflowDouble
from tests.support.runs import offers


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_pipeline("training", tmp_path_factory.mktemp("package") / "training.yaml")


@pytest.fixture
def double() -> Iterator[KubeflowDouble]:
    with KubeflowDouble() as found:
        yield found


def test_a_run_is_submitted_with_its_graph_and_arguments(double: KubeflowDouble, package: Path) -> None:
    run = Kubeflow(double.url).submit(package, {"contract": "shop", "trials": 3}, "retrain-shop-1")
    assert (run.name, run.state, run.finished, run.over) == ("retrain-shop-1", "PENDING", None, False)
    (sent,) = double.runs
    assert sent["runtime_config"]["parameters"] == {"contract": "shop", "trials": 3}
    spec = sent["pipeline_spec"]["pipeline_spec"]
    assert set(spec["root"]["dag"]["tasks"]) >= {"ingest", "validate", "prepare", "train", "evaluate", "gate"}
    executors = sent["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert all(executor["securityContext"]["runAsNonRoot"] for executor in executors.values())
    assert double.experiments[0]["display_name"] == "offers"


def test_the_same_name_is_never_run_twice(double: KubeflowDouble, package: Path) -> None:
    kubeflow = Kubeflow(double.url)
    runs = [kubeflow.submit(package, {"contract": "shop"}, "retrain-shop-1") for _ in range(3)]
    assert runs[0].id == runs[1].id == runs[2].id
    assert len(double.runs) == 1
    assert kubeflow.submit(package, {"contract": "shop"}, "retrain-shop-2").id != runs[0].id


def test_a_run_is_told_step_by_step(double: KubeflowDouble, package: Path) -> None:
    kubeflow = Kubeflow(double.url)
    run = kubeflow.submit(package, {"contract": "shop"}, "retrain-shop-1")
    double.runs[0] |= {
        "state": "FAILED",
        "finished_at": "2026-01-01T01:00:00Z",
        "error": {"code": 13, "message": "train failed"},
        "run_details": {
            "task_details": [
                {"display_name": "ingest", "state": "SUCCEEDED", "start_time": "2026-01-01T00:10:00Z"},
                {"display_name": "train", "state": "FAILED", "end_time": "1970-01-01T00:00:00Z"},
            ]
        },
    }
    told = kubeflow.run(run.id)
    assert told.over
    assert told.error == "train failed"
    assert [(task.name, task.state, task.ended) for task in told.tasks] == [
        ("ingest", "SUCCEEDED", None),
        ("train", "FAILED", None),
    ]


def test_runs_come_the_newest_first(double: KubeflowDouble, package: Path) -> None:
    kubeflow = Kubeflow(double.url)
    for number in range(3):
        kubeflow.submit(package, {"contract": "shop"}, f"run-{number}")
    assert [run.name for run in kubeflow.runs()] == ["run-2", "run-1", "run-0"]


def test_a_schedule_replaces_the_one_of_its_name(double: KubeflowDouble, package: Path) -> None:
    kubeflow = Kubeflow(double.url)
    first = kubeflow.schedule(package, {"contract": "shop"}, "nightly", "0 0 3 * * *")
    second = kubeflow.schedule(package, {"contract": "shop"}, "nightly", "0 0 4 * * *")
    assert first != second
    (kept,) = double.recurring
    assert kept["recurring_run_id"] == second
    assert kept["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert (kept["max_concurrency"], kept["no_catchup"]) in [("1", True), (1, True)]


def test_a_cron_line_of_five_fields_is_refused(double: KubeflowDouble, package: Path) -> None:
    with pytest.raises(ServiceError, match=r"expected six fields, .*, got 5"):
        Kubeflow(double.url).schedule(package, {}, "nightly", "0 3 * * *")
    assert double.recurring == []


def test_nobody_there() -> None:
    with pytest.raises(
        ServiceError, match=r"no Kubeflow Pipelines answers at http://127.0.0.1:9: .*OFFERS_KUBEFLOW_URL"
    ):
        Kubeflow("http://127.0.0.1:9")


def test_something_else_there(server: FileServer) -> None:
    with pytest.raises(ServiceError, match="is not Kubeflow Pipelines"):
        Kubeflow(server.url.removesuffix("/small.csv"))


def test_an_unknown_run(double: KubeflowDouble) -> None:
    with pytest.raises(ServiceError, match=r"run run-77: Kubeflow at .* knows none of that name"):
        Kubeflow(double.url).run("run-77")


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_refusal_is_told_in_a_sentence(double: KubeflowDouble, package: Path, status: int) -> None:
    kubeflow = Kubeflow(double.url)
    double.refuse[f"POST {API}/runs"] = status
    with pytest.raises(ServiceError, match=f"answers {status}: refused with {status}"):
        kubeflow.submit(package, {"contract": "shop"}, "retrain-shop-1")
    assert double.runs == []


def test_half_an_answer(double: KubeflowDouble) -> None:
    kubeflow = Kubeflow(double.url)
    double.broken = True
    with pytest.raises(ServiceError, match="has gone away"):
        kubeflow.runs()


def test_the_command_line_submits_follows_and_schedules(double: KubeflowDouble, tmp_path: Path) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return offers(tmp_path, "pipeline", *arguments, "--kubeflow", double.url)

    submitted = command("submit", "--publish", "s3://bank/bundles", "--name", "first", "--contract", "personal-loan")
    assert submitted.returncode == 0, submitted.stderr
    assert submitted.stdout == f"runs-1  first  PENDING\n{double.url}/#/runs/details/runs-1\n"
    assert double.runs[0]["runtime_config"]["parameters"]["publish"] == "s3://bank/bundles"
    scheduled = command("schedule", "--publish", "s3://bank/bundles", "--cron", "0 0 3 * * *")
    assert scheduled.stdout == "recurringruns-1  train-bank-marketing  0 0 3 * * *\n"
    assert command("status").stdout == "runs-1  PENDING    first\n"
    double.runs[0] |= {"state": "FAILED", "error": {"code": 13, "message": "train failed"}}
    failed = command("status", "runs-1")
    assert (failed.returncode, failed.stderr) == (1, "  train failed\n")
    assert command("status", "runs-2").returncode == 2
    refused = command("submit", "--publish", "bundles")
    assert refused.returncode == 2
    assert "expected s3://bucket/prefix" in refused.stderr
