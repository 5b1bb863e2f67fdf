"""What a person reads of the service: over what a real KServe said of it in eight states, and what else may be."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from deployment.status import Line, Snapshot, judge
from deployment.trouble import refused

RECORDED = Path(__file__).parent / "recorded"
BROKEN = "offers: /mnt/models/model.ubj: expected SHA-256 1c, got 2d: the file is damaged"


def deployment(full: str, replicas: int = 1, available: int = 1) -> dict[str, Any]:
    namespace, _, name = full.partition("/")
    status = {"availableReplicas": available} if available else {}
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"replicas": replicas}, "status": status}


PLATFORM = [
    deployment("cert-manager/cert-manager"),
    deployment("kserve/kserve-controller-manager"),
    deployment("kubeflow/seaweedfs"),
    deployment("kubeflow/ml-pipeline"),
]


def node(name: str, status: str = "True") -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": status}]}}


def cluster(state: str = "served", **changes: Any) -> Snapshot:
    """The service in a recorded state, on a platform that is well."""
    found = json.loads((RECORDED / f"{state}.json").read_text("utf-8"))
    parts: dict[str, Any] = {
        "context": "lab",
        "nodes": [node("one")],
        "deployments": [*PLATFORM, deployment("offers/retraining-trigger"), found["deployment"]],
        "service": found["service"],
        "pods": found["pods"],
        "words": lambda pod, container: BROKEN if container == "kserve-container" else "",
    }
    return Snapshot(**(parts | changes))


def told(found: Snapshot) -> dict[str, Line]:
    return {line.part: line for line in judge(found)}


def replaced(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    names = [part["metadata"]["name"] for part in parts]
    return [*[part for part in PLATFORM if part["metadata"]["name"] not in names], *parts]


@pytest.mark.parametrize(
    ("state", "service", "bundle", "remedy"),
    [
        ("served", "1 of 1 pods answer", "bank-marketing-c9682403f0bc2c73 is served", ""),
        (
            "no-bundle",
            "names no release, and 1 pod(s) of before still answer",
            "none; bank-marketing-c9682403f0bc2c73 is served still",
            "'offers deploy' names the champion again",
        ),
        (
            "missing-bundle",
            "1 of 1 pods answer",
            "none-such can't be served: there is no release at s3://offers/bundles/none-such;"
            " meanwhile bank-marketing-c9682403f0bc2c73 is served",
            "'make rollback' takes the former one, 'offers deploy RELEASE' another",
        ),
        (
            "broken-bundle",
            "1 of 1 pods answer",
            "bank-marketing-0000000000000bad can't be served: kserve-container ends with exit code 2:"
            " /mnt/models/model.ubj: expected SHA-256 1c, got 2d: the file is damaged;"
            " meanwhile bank-marketing-c9682403f0bc2c73 is served",
            "'kubectl -n offers logs offers-predictor-cb7fdc556-5ll4l -c kserve-container' says more;"
            " 'make rollback' takes the former release",
        ),
        (
            "wrong-secret",
            "1 of 1 pods answer",
            "bank-marketing-7707c2bf12ca0e6c can't be served: the object store refuses its keys;"
            " meanwhile bank-marketing-c9682403f0bc2c73 is served",
            "Secret offers/object-store has others than the store: 'make deploy' writes those of Kubeflow's store",
        ),
        (
            "no-room",
            "no pod answers",
            "bank-marketing-c9682403f0bc2c73 can't be served: no node has room for its pod"
            " (0/1 nodes are available: 1 Insufficient cpu)",
            "add a node, or let fewer pods run",
        ),
        (
            "node-restarted",
            "no pod answers",
            "bank-marketing-c9682403f0bc2c73 is not served yet: its node was restarted, and the pod begins anew",
            "wait, and ask again in a minute",
        ),
    ],
)
def test_each_recorded_state_yields_the_sentence_that_a_person_needs(
    state: str, service: str, bundle: str, remedy: str
) -> None:
    found = told(cluster(state))
    assert found["service"].text == service
    assert (found["release"].text, found["release"].remedy) == (bundle, remedy)
    assert found["trigger"] == Line("trigger", "available")


def test_where_kserves_controller_is_away_the_pod_that_serves_is_told_of_and_how_to_come_back() -> None:
    parts = replaced(deployment("kserve/kserve-controller-manager", 0, 0))
    state = cluster("controller-away")
    found = told(cluster("controller-away", deployments=[*parts, *state.deployments[-2:]]))
    assert found["platform"].text == "scaled to zero: kserve/kserve-controller-manager"
    assert "'kubectl -n kserve scale deployment/kserve-controller-manager --replicas=1'" in found["platform"].remedy
    assert "no serving pod starts until then" in found["platform"].remedy
    assert found["service"].text == "1 of 1 pods answer"
    assert found["release"].text == (
        "bank-marketing-c9682403f0bc2c73 is served by 1 pod(s) that ends:"
        " KServe's controller is away, and without it no pod of the service can be made"
    )
    assert "kubectl -n offers annotate replicaset" in found["release"].remedy


def test_a_crash_is_told_between_two_tries_as_well() -> None:
    state = cluster("broken-bundle")
    pods = deepcopy(state.pods)
    for pod in pods:
        for status in pod["status"]["containerStatuses"]:
            if "waiting" in status["state"]:
                status["state"] = {"running": {}}
    assert "kserve-container ends with exit code 2" in told(cluster("broken-bundle", pods=pods))["release"].text


def test_a_line_of_json_is_never_the_reason() -> None:
    found = told(cluster("broken-bundle", words=lambda pod, container: '{"host": "0.0.0.0", "http_port": 8090}'))
    assert found["release"].text.startswith(
        "bank-marketing-0000000000000bad can't be served: kserve-container ends with exit code 2; meanwhile"
    )


def test_more_room_is_a_matter_of_docker_only_where_the_cluster_is_kinds() -> None:
    assert told(cluster("no-room", context="kind-offers"))["release"].remedy == "give docker more CPUs and memory"


def test_a_pod_that_has_just_begun_is_on_its_way() -> None:
    pods = deepcopy(cluster("served").pods)
    for pod in pods:
        for condition in pod["status"]["conditions"]:
            condition["status"] = "True" if condition["type"] == "PodScheduled" else "False"
        for status in pod["status"]["containerStatuses"]:
            status |= {"ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
    found = told(cluster("served", pods=pods))
    assert found["release"] == Line("release", "bank-marketing-c9682403f0bc2c73 is on its way", "wait, and ask again")


@pytest.mark.parametrize(
    ("parts", "text", "remedy"),
    [
        (PLATFORM, "4 deployments available", ""),
        (PLATFORM[1:], "not installed: cert-manager", "'make platform' installs it"),
        (
            replaced(deployment("kubeflow/seaweedfs", 0, 0)),
            "scaled to zero: kubeflow/seaweedfs",
            "'kubectl -n kubeflow scale deployment/seaweedfs --replicas=1' starts it",
        ),
        (
            replaced(deployment("kubeflow/ml-pipeline", 1, 0)),
            "of 4 deployments not available: kubeflow/ml-pipeline",
            "they may be starting; 'kubectl get pods -A' shows those that fail",
        ),
    ],
)
def test_the_platform(parts: list[Any], text: str, remedy: str) -> None:
    line = told(cluster(deployments=parts))["platform"]
    assert (line.text, line.remedy) == (text, remedy)


def test_nodes_and_trigger() -> None:
    found = told(cluster(nodes=[node("one"), node("two", "Unknown")], deployments=PLATFORM))
    assert found["nodes"] == Line("nodes", "of 2 not ready: two", "'kubectl describe node two' says why")
    assert found["trigger"].text == "there is no deployment offers/retraining-trigger"
    stopped = told(cluster(deployments=[*PLATFORM, deployment("offers/retraining-trigger", 0, 0)]))["trigger"]
    assert stopped.text == "scaled to zero, so that no alarm starts a training"
    starting = told(cluster(deployments=[*PLATFORM, deployment("offers/retraining-trigger", 1, 0)]))["trigger"]
    assert starting.text == "not available"


def test_before_the_first_bundle_and_without_a_service() -> None:
    service = deepcopy(cluster("no-bundle").service)
    found = told(cluster("no-bundle", service=service, pods=[]))
    assert found["service"].text == "waits for its first release"
    assert found["release"] == Line("release", "none", "'make deploy' trains one and deploys it")
    none = told(cluster(service=None))
    assert none["service"] == Line("service", "there is no InferenceService offers/offers", "'make deploy' makes it")
    assert "release" not in none


def test_what_an_account_may_not_read_is_said_and_no_fault() -> None:
    unknown = "unknown: the account that asks may not list nodes"
    found = told(cluster(nodes=unknown))
    assert found["nodes"] == Line("nodes", unknown)
    assert found["release"].text == "bank-marketing-c9682403f0bc2c73 is served"
    nothing = judge(cluster(nodes="a", deployments="b", service="c", pods="d"))
    assert [line.text for line in nothing] == ["a", "b", "c", "b"]
    assert not any(line.remedy for line in nothing)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ('violates PodSecurity "restricted": container "storage-initializer" must set', "'make platform' takes them"),
        ('violates PodSecurity "restricted": container "drift" must set', "set in its securityContext"),
        ("pods is forbidden: exceeded quota: namespace, requested: cpu", "raise ResourceQuota offers/namespace"),
        ("something else", "get events"),
    ],
)
def test_why_no_pod_may_be_made(message: str, remedy: str) -> None:
    assert refused(message).reason == message
    assert remedy in refused(message).remedy
