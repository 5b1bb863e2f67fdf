"""What the steps of a run on a cluster have said, read from their pods."""

import json
from collections.abc import Iterator
from http import HTTPStatus

import urllib3
from kubernetes import client

from deployment.cluster import connect
from offers.errors import ServiceError

RUN_LABEL = "pipeline/runid"


def logs_of(run: str, namespace: str, api: client.CoreV1Api | None = None) -> Iterator[tuple[str, str]]:
    """Names of a run's pods in the order of their beginning, each with the log of its step.

    Raises
    ------
    ServiceError
        no cluster answers, it refuses, or it has no pods of that run, which it deletes in the end
    """
    api = api or client.CoreV1Api(connect())
    try:
        pods = api.list_namespaced_pod(namespace, label_selector=f"{RUN_LABEL}={run}").items
        if not pods:
            raise ServiceError(
                f"namespace {namespace!r} has no pods of run {run!r}; 'offers pipeline status' lists runs"
            )
        for pod in sorted(pods, key=lambda pod: pod.metadata.creation_timestamp):
            if any(container.name == "main" for container in pod.spec.containers):
                yield pod.metadata.name, _log(api, pod.metadata.name, namespace)
    except client.ApiException as error:
        raise ServiceError(f"the cluster answers {error.status} for the pods of run {run!r}: {error.reason}") from None
    except urllib3.exceptions.HTTPError as error:
        raise ServiceError(f"the cluster has gone away: {str(error)[:200]}") from None


def _log(api: client.CoreV1Api, pod: str, namespace: str) -> str:
    try:
        return str(api.read_namespaced_pod_log(pod, namespace, container="main"))
    except client.ApiException as error:
        # So a kubelet answers for a container that has not begun, and its message says what it waits for.
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
        return str(json.loads(error.body)["message"])
