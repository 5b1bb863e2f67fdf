"""Requests from a pod of a namespace that may ask, while the service is changed: each is counted, none may fail."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client

from tests.e2e.awaiting import await_that

NAMESPACE, POD = "offers-e2e", "load"
PROGRAM = """
import json, signal, sys, threading, time
import httpx

body, ends = sys.argv[1], threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ends.set())
counts, lock = {"kept": 0, "new": 0, "failed": []}, threading.Lock()

def ask(kind, client):
    try:
        answer = client.post("http://ranker.offers.svc/v1/models/offers:predict", content=body)
        failure = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"
    except httpx.HTTPError as error:
        failure = f"{type(error).__name__}: {error}"
    with lock:
        counts[kind] += 1
        if failure:
            counts["failed"].append(f"{kind}: {failure}")

def kept():
    with httpx.Client(timeout=10) as client:
        while not ends.wait(0.1):
            ask("kept", client)

def new():
    while not ends.wait(0.1):
        with httpx.Client(timeout=10) as client:
            ask("new", client)

threads = [threading.Thread(target=one) for one in (kept, kept, new, new)]
for thread in threads: thread.start()
while not ends.wait(1): print(json.dumps(counts), flush=True)
for thread in threads: thread.join()
print(json.dumps(counts), flush=True)
"""


@dataclass
class Load:
    """How many requests were sent over kept-alive and over new connections, and those that failed."""

    kept: int = 0
    new: int = 0
    failed: tuple[str, ...] = ()


@contextmanager
def asking(api: client.ApiClient, image: str, request: str) -> Iterator[Load]:
    """Ask about forty times a second as long as the block lasts; the counts are there when it has ended."""
    core, load = client.CoreV1Api(api), Load()
    labels = {"offers/client": "", "pod-security.kubernetes.io/enforce": "restricted"}
    namespace = client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE, labels=labels))
    try:
        core.create_namespace(namespace)
        core.create_namespaced_pod(NAMESPACE, _pod(image, request))
        await_that("the load to begin", lambda: _begun(core), 180, f"kubectl -n {NAMESPACE} logs {POD}")
        yield load
        time.sleep(5)
        counts = _counts(core)
        load.kept, load.new, load.failed = counts["kept"], counts["new"], tuple(counts["failed"])
    except client.ApiException as error:
        pytest.fail(f"namespace {NAMESPACE}: the cluster answers {error.status}, {error.reason}", pytrace=False)
    finally:
        core.delete_namespace(NAMESPACE, grace_period_seconds=0)


def _begun(core: client.CoreV1Api) -> tuple[bool | None, str]:
    try:
        counts = _counts(core)
    except client.ApiException as error:
        return None, f"{error.status} {error.reason}"
    return (True if counts["kept"] and counts["new"] else None), json.dumps(counts)[:200]


def _counts(core: client.CoreV1Api) -> dict[str, Any]:
    lines = str(core.read_namespaced_pod_log(POD, NAMESPACE, tail_lines=1)).splitlines()
    counts: dict[str, Any] = json.loads(lines[-1]) if lines else {"kept": 0, "new": 0, "failed": []}
    return counts


def _pod(image: str, request: str) -> dict[str, Any]:
    rights = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "load",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", PROGRAM, request],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}},
        "securityContext": rights,
    }
    spec = {"containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": spec}
