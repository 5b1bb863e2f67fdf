"""Logs of a cluster run's steps, from their pods or from the store where Kubeflow keeps them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import urllib3
from kubernetes import client

from offers.errors import ServiceError
from offers.steps.execution import MISTAKE, PREFIX
from offers.store.store import Store

RUN_LABEL = "pipeline/runid"
NODE = "workflows.argoproj.io/node-name"
KILLED = 137

_FOREIGN = re.compile(r"time=\S+ level=|[IWEF]\d{4} \d\d:\d\d:\d\d|\[KFP Executor |Error: exit status|ensurepip|\s*$")
"""How lines begin that Argo, Kubeflow's launcher and its executor write."""
_RAISED = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b.*")


@dataclass(frozen=True)
class StepLog:
    """Log of one try of a step; `end` says how its container ended, if it failed."""

    step: str
    text: str
    end: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines that the step itself printed."""
        return list(_own(self.text))

    @property
    def reason(self) -> str:
        """The reason for the step's end, in one sentence."""
        lines = self.lines
        ours = next((match["sentence"] for line in reversed(lines) if (match := MISTAKE.match(line))), "")
        raised = next((line for line in reversed(lines) if _RAISED.fullmatch(line)), "")
        last = lines[-1].removeprefix(PREFIX) if lines else "it has said nothing"
        return ours or raised or self.end or last


def pod_logs(run: str, namespace: str, api: client.CoreV1Api) -> list[StepLog]:
    """Read the logs of a run's steps from its pods, the earliest first; empty where the pods are gone.

    Raises
    ------
    ServiceError
        no cluster answers, or it refuses
    """
    try:
        pods = api.list_namespaced_pod(namespace, label_selector=f"{RUN_LABEL}={run}").items
        steps = [(pod, name) for pod in pods if (name := _step(pod))]
        steps.sort(key=lambda step: step[0].metadata.creation_timestamp)
        return [StepLog(name, _log(api, pod.metadata.name, namespace), _end(pod)) for pod, name in steps]
    except client.ApiException as error:
        raise ServiceError(f"the cluster answers {error.status} for the pods of run {run!r}: {error.reason}") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ServiceError(f"the cluster has gone away: {str(error)[:200]}") from None


def kept_logs(run: str, pipeline: str, store: Store) -> list[StepLog]:
    """Read the logs of a run's steps from the store where Kubeflow keeps them: the last try of each, in no order.

    Parameters
    ----------
    store : Kubeflow's artifacts, s3://mlpipeline/v2/artifacts

    Raises
    ------
    StorageError
        the store can't be reached, or refuses
    """
    prefix = f"{pipeline}/{run}/"
    keys = [key for key in store.keys(prefix) if key.rpartition("/")[2].startswith("executor-logs")]
    return [
        StepLog(key.removeprefix(prefix).partition("/")[0], store.read_bytes(key).decode("utf-8", "replace"))
        for key in keys
    ]


def _own(text: str) -> Iterator[str]:
    block = False
    for line in text.splitlines():
        # The executor prints its input and its output as JSON of many lines.
        if block or line == "{":
            block = line != "}"
        elif _FOREIGN.match(line):
            block = line.endswith("{")
        else:
            yield line.rstrip()


def _step(pod: Any) -> str:
    """Name the step whose container a pod runs; empty for a pod of no step, such as a driver's."""
    if not any(container.name == "main" for container in pod.spec.containers):
        return ""
    *_, step, last = ["", *re.sub(r"\(\d+\)", "", (pod.metadata.annotations or {}).get(NODE, "")).split(".")]
    return step if last == "executor" else ""


def _end(pod: Any) -> str:
    statuses = (pod.status.container_statuses if pod.status else None) or ()
    states = [status.state.terminated for status in statuses if status.name == "main" and status.state]
    end = next((state for state in states if state is not None), None)
    if end is None or end.exit_code == 0:
        return ""
    if end.reason == "OOMKilled":
        return "it was killed, as it took more memory than its limit (exit code 137)"
    if end.exit_code == KILLED:
        return f"its process was killed (exit code {KILLED})"
    return f"it ended with exit code {end.exit_code}"


def _log(api: client.CoreV1Api, pod: str, namespace: str) -> str:
    try:
        return str(api.read_namespaced_pod_log(pod, namespace, container="main"))
    except client.ApiException as error:
        # This is a kubelet's answer for a container that has not started; its message says what it waits for.
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
        return str(json.loads(error.body)["message"])
