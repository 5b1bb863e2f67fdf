"""The manifests as kustomize renders them, and the pods that come of them."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
FETCHES = "storage-initializer"
"""The container that KServe puts before ours, where a bundle is named; the platform says what it may."""
SERVING = {"serving.kserve.io/inferenceservice": "offers", "component": "predictor", "app": "isvc.offers-predictor"}
"""Labels that KServe gives to the pods of the service, and that our selectors rest on."""

Object = dict[str, Any]


@cache
def rendered(path: str) -> tuple[Object, ...]:
    tool = next((tool for tool in ("kustomize", "kubectl") if shutil.which(tool)), None)
    if tool is None:
        pytest.skip(
            "neither kustomize nor kubectl is here: the manifests are NOT tested; install kubectl 1.31 or newer"
        )
    command = [tool, "build" if tool == "kustomize" else "kustomize", MANIFESTS / path]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return tuple(item for item in yaml.safe_load_all(process.stdout) if item)


def of(objects: tuple[Object, ...], kind: str, name: str = "") -> Iterator[Object]:
    for item in objects:
        if item["kind"] == kind and name in ("", item["metadata"]["name"]):
            yield item


def serving_pod(objects: tuple[Object, ...]) -> Object:
    """The pod that KServe makes: the runtime's container first, then those of the service."""
    (runtime,), (service,) = of(objects, "ServingRuntime"), of(objects, "InferenceService")
    of_kserve = ("model", "labels", "annotations", "minReplicas", "maxReplicas")
    predictor, spec = service["spec"]["predictor"], runtime["spec"]
    pod = {key: value for key, value in predictor.items() if key not in of_kserve}
    models = {"name": "kserve-provision-location", "mountPath": "/mnt/models", "readOnly": True}
    (container,) = spec["containers"]
    assert "resources" not in container, "the service's own, or KServe's default, would replace them"
    container = container | {"volumeMounts": [*container["volumeMounts"], models]}
    container["resources"] = predictor["model"]["resources"]
    metadata = {"name": "offers-predictor", "namespace": service["metadata"]["namespace"]}
    metadata |= {"labels": predictor["labels"] | SERVING, "annotations": predictor["annotations"]}
    pod |= {"containers": [container, *predictor["containers"]], "volumes": [*spec["volumes"], *predictor["volumes"]]}
    pod["initContainers"] = [storage_initializer()]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def storage_initializer() -> Object:
    (storage,) = of(rendered("platform/kserve-storage"), "ClusterStorageContainer", "default")
    assert {"prefix": "s3://"} in storage["spec"]["supportedUriFormats"]
    models = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
    merged = {"args": ["s3://offers/releases/one", "/mnt/models"], "volumeMounts": [models]}
    container: Object = storage["spec"]["container"] | merged
    assert container["name"] == FETCHES
    return container


def pods(objects: tuple[Object, ...]) -> list[Object]:
    """Each pod of ours, as its template tells it."""
    ours = [serving_pod(objects)]
    for item in objects:
        if item["kind"] in ("Deployment", "Job", "StatefulSet", "CronJob"):
            of_pod = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
            template, claims = of_pod["template"], of_pod.get("volumeClaimTemplates", [])
            metadata, spec = item["metadata"] | template["metadata"], template["spec"]
            # As the controller adds them.
            claimed = [{"name": one["metadata"]["name"], "persistentVolumeClaim": {}} for one in claims]
            spec = spec | {"volumes": [*spec.get("volumes", []), *claimed]}
            ours.append({"kind": item["kind"], "metadata": metadata, "spec": spec})
    return ours


def containers(objects: tuple[Object, ...]) -> Iterator[tuple[Object, Object]]:
    for pod in pods(objects):
        for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
            yield pod, container
