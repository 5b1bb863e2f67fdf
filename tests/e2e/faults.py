"""Faults that only the real parts can show, brought about and taken back."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client

from tests.e2e.awaiting import await_that
from tests.e2e.cluster import Cluster

KUBEFLOW = "kubeflow"
WAY = "e2e-store"
"""A second name of the object store, which leads nowhere until it is told to."""
KILL = """
import os, signal
for process in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{process}/cmdline", "rb") as file:
        if b"executor_main" in file.read() and int(process) != os.getpid():
            os.kill(int(process), signal.SIGKILL)
"""


def kubectl(*arguments: str, seconds: float = 120) -> str:
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        pytest.fail(f"kubectl {' '.join(arguments)} ended with {done.returncode}: {done.stderr}", pytrace=False)
    return done.stdout


@contextmanager
def steps_without_store(api: client.ApiClient) -> Iterator[None]:
    """Let the steps of runs, and nothing of Kubeflow's, ask a store that is away; `come_back` brings it back."""
    core = client.CoreV1Api(api)
    settings = core.read_namespaced_config_map("offers-settings", KUBEFLOW).data
    service = {"metadata": {"name": WAY}, "spec": {"selector": {"app": "nobody"}, "ports": [_PORT]}}
    core.create_namespaced_service(KUBEFLOW, service)
    moved = {"data": {"OFFERS_S3_ENDPOINT": f"http://{WAY}.{KUBEFLOW}:9000"}}
    try:
        core.patch_namespaced_config_map("offers-settings", KUBEFLOW, moved)
        yield
    finally:
        core.patch_namespaced_config_map("offers-settings", KUBEFLOW, {"data": settings})
        core.delete_namespaced_service(WAY, KUBEFLOW)


_PORT = {"port": 9000, "targetPort": 8333}


def come_back(api: client.ApiClient) -> None:
    """Let the second name lead to the store."""
    core = client.CoreV1Api(api)
    core.patch_namespaced_service(WAY, KUBEFLOW, {"spec": {"selector": {"app": "seaweedfs"}}})


@contextmanager
def store_away(cluster: Cluster) -> Iterator[None]:
    """Stop the store itself, for Kubeflow as well, as long as the block lasts."""
    kubectl("-n", KUBEFLOW, "scale", "deployment/seaweedfs", "--replicas=0")
    try:
        yield
    finally:
        kubectl("-n", KUBEFLOW, "scale", "deployment/seaweedfs", "--replicas=1")
        kubectl("-n", KUBEFLOW, "rollout", "status", "deployment/seaweedfs", "--timeout=180s", seconds=200)


def await_step(cluster: Cluster, run: str, step: str, seconds: float) -> None:
    """Wait until a step of a run has begun."""

    def look() -> tuple[bool | None, str]:
        steps = {one.name: one.state for one in cluster.kubeflow.run(run).steps}
        return (True if steps.get(step) in ("running", "done") else None), str(steps)

    await_that(f"step {step} of run {run}", look, seconds, f"offers pipeline status {run}")


def step_pod(api: client.ApiClient, run: str, step: str, seconds: float) -> str:
    """Name of the pod that runs a step, once its container runs."""
    core = client.CoreV1Api(api)

    def look() -> tuple[str | None, str]:
        pods = core.list_namespaced_pod(KUBEFLOW, label_selector=f"pipeline/runid={run}").items
        node = "workflows.argoproj.io/node-name"
        named = [pod for pod in pods if f".{step}(" in (pod.metadata.annotations or {}).get(node, "")]
        running = [pod.metadata.name for pod in named if pod.status.phase == "Running"]
        return next(iter(running), None), f"{len(pods)} pods, {len(named)} of the step"

    return await_that(f"the pod of step {step}", look, seconds, f"kubectl -n {KUBEFLOW} get pods")


def kill(pod: str) -> None:
    """Kill the process of a step, as the kernel does where memory is short."""
    kubectl("-n", KUBEFLOW, "exec", pod, "-c", "main", "--", "python", "-c", KILL)


def workflow(api: client.ApiClient, run: str) -> dict[str, Any]:
    """Argo's workflow of a run."""
    objects = client.CustomObjectsApi(api)
    found = objects.list_namespaced_custom_object(
        "argoproj.io", "v1alpha1", KUBEFLOW, "workflows", label_selector=f"pipeline/runid={run}"
    )["items"]
    assert len(found) == 1, f"run {run} has {len(found)} workflows"
    return dict(found[0])


def without_namespace(cluster: Cluster, name: str, *keep: str) -> None:
    """Delete a namespace and make it anew with Secrets of before, as after a loss of all but the bucket."""
    core = client.CoreV1Api(cluster.api)
    secrets = [core.read_namespaced_secret(one, name) for one in keep]
    core.delete_namespace(name)

    def gone() -> tuple[bool | None, str]:
        names = {one.metadata.name for one in core.list_namespace().items}
        return (None if name in names else True), f"{len(names)} namespaces"

    await_that(f"the end of namespace {name}", gone, 300, f"kubectl get namespace {name} -o yaml")
    kubectl("apply", "--server-side", "-f", "manifests/base/namespace.yaml")
    for secret in secrets:
        metadata = {"name": secret.metadata.name, "annotations": secret.metadata.annotations}
        core.create_namespaced_secret(name, {"metadata": metadata, "data": secret.data})
    kubectl("apply", "--server-side", "-k", "build/deploy")


def pause(seconds: float) -> None:
    """Let a fault last: there is nothing to be awaited."""
    time.sleep(seconds)
