"""What steps have said, found in what Argo, Kubeflow's launcher and its executor write around it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from offers.errors import ServiceError
from offers.store.directory import DirectoryStore
from pipelines.logs import NODE, StepLog, kept_logs, pod_logs
from tests.support.kubernetes_double import KubernetesDouble

RECORDED = Path(__file__).parent / "recorded"
SOURCE = "https://archive.ics.uci.edu/static/public/222/bank+marketing.zip: the server can't be reached"


def text(name: str) -> str:
    return (RECORDED / f"main-{name}.txt").read_text("utf-8")


@pytest.fixture
def double() -> Iterator[KubernetesDouble]:
    with KubernetesDouble(lambda service: None) as double:
        yield double


def pod(name: str, node: str, hour: int = 1, container: str = "main", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": f"2026-01-01T{hour:02}:00:00Z",
            "labels": {"pipeline/runid": "r1"},
            "annotations": {NODE: node},
        },
        "spec": {"containers": [{"name": container, "image": "x:1"}]},
        "status": status,
    }


def test_a_step_that_failed_is_told_by_its_own_sentence() -> None:
    log = StepLog("ingest", text("failed-source"))
    assert log.reason.startswith(SOURCE)
    assert log.lines[0] == "Traceback (most recent call last):"
    assert log.lines[-1].startswith("offers.errors.SourceError: ")
    assert not [line for line in log.lines if "argo" in line or "KFP" in line or "launcher_v2" in line]


def test_of_a_step_that_was_killed_remains_what_it_said_and_how_it_ended() -> None:
    log = StepLog("validate", text("killed"), "its process was killed (exit code 137)")
    assert log.lines == ["offers: 41188 rows keep to contract bank-marketing"]
    assert log.reason == "its process was killed (exit code 137)"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("offers: 3 rows\noffers: stopped: the store is away; try again\n", "the store is away; try again"),
        (
            "Traceback (most recent call last):\n  File x\nValueError: odd\nE1130 04:42:33.9 15 x.go:1] failed\n",
            "ValueError: odd",
        ),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'a'", "KeyError: 'a'"),
        ("offers: failed: auc >= 0.99\n", "failed: auc >= 0.99"),
        ("", "it has said nothing"),
    ],
)
def test_last_words(said: str, reason: str) -> None:
    assert StepLog("train", said).reason == reason


def test_logs_come_in_the_order_of_the_pods_and_those_of_drivers_stay_out(double: KubernetesDouble) -> None:
    double.pods = [
        pod("gate", "w(0).root(0).gate(0).executor(0)", 3),
        pod("train", "w(0).root(0).train(0).executor(1)", 2),
        pod("ingest", "w.root.ingest.executor", 1),
        pod("driver", "w(0).root(0).train-driver(0)", 0),
        pod("foreign", "w(0).root(0).train(0).executor(0)", 0, container="other"),
    ]
    double.logs = {"train": "offers: 300 trees\n", "ingest": "offers: 41188 rows\n"}
    logs = pod_logs("r1", "kubeflow", client.CoreV1Api(double.api()))
    assert [(log.step, log.lines) for log in logs] == [
        ("ingest", ["offers: 41188 rows"]),
        ("train", ["offers: 300 trees"]),
        ("gate", ['container "main" in pod "gate" is waiting to start: PodInitializing']),
    ]
    assert pod_logs("r2", "kubeflow", client.CoreV1Api(double.api())) == []


def test_how_a_pod_ended_is_read_from_its_status(double: KubernetesDouble) -> None:
    killed = json.loads((RECORDED / "pod-killed-step.json").read_text("utf-8"))["status"]
    starved = {
        "containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]
    }
    for status in starved["containerStatuses"]:
        status |= {"image": "x", "imageID": "x", "ready": False, "restartCount": 0}
    double.pods = [
        pod("validate", "w(0).root(0).validate(0).executor(0)", 1, **killed),
        pod("train", "w(0).root(0).train(0).executor(0)", 2, **starved),
    ]
    double.logs = {"validate": text("killed"), "train": ""}
    killed_log, starved_log = pod_logs("r1", "kubeflow", client.CoreV1Api(double.api()))
    assert killed_log.reason == "its process was killed (exit code 137)"
    assert starved_log.reason == "it was killed, as it took more memory than its limit (exit code 137)"


def test_an_account_that_may_not_read_pods(double: KubernetesDouble) -> None:
    double.refuse["GET /api/v1/namespaces/kubeflow/pods"] = 403
    with pytest.raises(ServiceError, match="the cluster answers 403 for the pods of run 'r1'"):
        pod_logs("r1", "kubeflow", client.CoreV1Api(double.api()))


def test_what_kubeflow_has_kept_is_read_where_the_pods_are_gone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write_bytes("offers-training/r1/ingest/1f/executor-logs-0", b"offers: stopped: no rows\n")
    store.write_bytes("offers-training/r1/ingest/1f/raw/rows.parquet", b"PAR1")
    store.write_bytes("offers-training/r2/ingest/1f/executor-logs-0", b"offers: another run\n")
    (log,) = kept_logs("r1", "offers-training", store)
    assert (log.step, log.reason) == ("ingest", "no rows")
