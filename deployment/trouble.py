"""Explains from a pod's status, in one sentence, why the pod does not answer, and what to do about it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offers.steps.execution import PREFIX

Pod = Mapping[str, Any]
Words = Callable[[str, str], str]
"""Takes a pod's name and a container's, and gives the last line that the container has said."""

_INITIALIZER = "storage-initializer"
_PREDICTOR = "kserve-container"
_INITIALIZER_LOG = re.compile(r"^\S+ \S+ \d+ storage\.initializer [A-Z]+ \[[^]]*\] ")
_BEGINNING = ("PodInitializing", "ContainerCreating", "")
_REFUSED_KEYS = re.compile(
    r"forbidden|access ?denied|InvalidAccessKeyId|SignatureDoesNotMatch|\[403\]|unable to locate credentials", re.I
)
_NO_BUNDLE = re.compile(r"no model found|NoSuch|\(404\)|\[404\]", re.I)
_STORE_AWAY = re.compile(r"could not connect to the endpoint|connection refused|timed? ?out|name resolution", re.I)


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not answer, and what to do; where `passes` is true, it may be enough to wait."""

    reason: str
    remedy: str
    passes: bool = False


def trouble_of(pods: Sequence[Pod], uri: str, kind: bool, words: Words) -> Trouble | None:
    """Find the first trouble of pods that should serve a bundle; None where there is none.

    Parameters
    ----------
    uri : the bundle's URI, for the remedy
    kind : whether the cluster is a kind cluster
    words : called for a container's last words if its status does not say why it ended
    """
    for pod in pods:
        for check in (_unscheduled, _uninitialized, _unstarted, _crashed):
            if trouble := check(pod, uri, kind, words):
                return trouble
    return None


def ready(pod: Pod) -> bool:
    """Whether a pod answers."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def refused(message: str) -> Trouble:
    """Explain by the API server's message why no pod can be made, and what to do."""
    if "kserve-webhook-server" in message:
        return Trouble(
            "KServe's controller is away, and without it no pod of the service can be made",
            "'kubectl -n kserve get pods' shows it; once it is back, 'kubectl -n offers annotate replicaset -l"
            " serving.kserve.io/inferenceservice=offers offers/hurry=$(date +%s) --overwrite' spares up to two minutes",
        )
    if "PodSecurity" in message and _INITIALIZER in message:
        remedy = (
            "KServe's storage-initializer keeps rights that the namespace refuses: 'make platform' takes them;"
            " for a KServe of another hand manifests/platform/README.md has the line"
        )
    elif "PodSecurity" in message:
        remedy = (
            "a container keeps rights that the namespace refuses: set in its securityContext what the message names"
        )
    elif "exceeded quota" in message:
        remedy = (
            "pods that end count until they have ended, so ask again in a minute; where it stays, raise"
            " ResourceQuota offers/namespace in your overlay"
        )
    else:
        remedy = "'kubectl -n offers get events' says more"
    return Trouble(message, remedy)


def _unscheduled(pod: Pod, uri: str, kind: bool, words: Words) -> Trouble | None:
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            reason = condition.get("message", "no node takes the pod").partition(". ")[0]
            more = "give docker more CPUs and memory" if kind else "add a node, or let fewer pods run"
            return Trouble(f"no node has room for its pod ({reason})", more)
    return None


def _uninitialized(pod: Pod, uri: str, kind: bool, words: Words) -> Trouble | None:
    for status in pod["status"].get("initContainerStatuses", ()):
        if status["ready"] or not (failure := _ended(status)):
            continue
        sentence = _INITIALIZER_LOG.sub("", _last(failure.get("message", "")) or words(_name(pod), status["name"]))
        if _REFUSED_KEYS.search(sentence):
            return Trouble(
                "the object store refuses its keys",
                "Secret offers/object-store has others than the store: 'make deploy' writes those of Kubeflow's store",
            )
        if _NO_BUNDLE.search(sentence):
            return Trouble(
                f"there is no release at {uri}",
                "'make rollback' takes the former one, 'offers deploy RELEASE' another",
            )
        if _STORE_AWAY.search(sentence):
            return Trouble(
                f"the object store can't be reached ({sentence})", "it is tried again; see the line 'platform'", True
            )
        return Trouble(f"it can't be fetched: {sentence}", f"'{_logs(pod, status['name'])}' says more")
    return None


def _unstarted(pod: Pod, uri: str, kind: bool, words: Words) -> Trouble | None:
    for status in _statuses(pod):
        waiting = status.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if "Image" in reason:
            image = status.get("image", "its image")
            return Trouble(f"{image} can't be pulled ({reason})", "'make deploy' loads it onto the nodes of kind")
        if reason not in (*_BEGINNING, "CrashLoopBackOff"):
            return Trouble(
                f"{status['name']} can't be started: {reason}: {waiting.get('message', '')}",
                f"'kubectl -n offers describe pod {_name(pod)}' says more",
            )
    return None


def _crashed(pod: Pod, uri: str, kind: bool, words: Words) -> Trouble | None:
    for status in _statuses(pod):
        failure = _ended(status)
        if status["ready"] or not failure:
            continue
        # The kubelet writes this for containers that ran when their node went down, and that are restarted.
        if failure.get("reason") == "Unknown":
            return Trouble("its node was restarted, and the pod begins anew", "wait, and ask again in a minute", True)
        if failure.get("reason") == "OOMKilled":
            return Trouble(
                f"{status['name']} was killed, as it took more memory than its limit",
                "raise its limit in your overlay",
            )
        if status["name"] != _PREDICTOR and _waits_for_predictor(pod):
            continue
        sentence = _sentence(_last(failure.get("message", "")) or words(_name(pod), status["name"]))
        return Trouble(
            f"{status['name']} ends with exit code {failure.get('exitCode')}{f': {sentence}' if sentence else ''}",
            f"'{_logs(pod, status['name'])}' says more; 'make rollback' takes the former release",
        )
    return None


def _waits_for_predictor(pod: Pod) -> bool:
    """Whether the predictor has ended as well. Then its words give the reason, and not another container's."""
    return any(status["name"] == _PREDICTOR and not status["ready"] and _ended(status) for status in _statuses(pod))


def _statuses(pod: Pod) -> Iterator[Mapping[str, Any]]:
    yield from pod["status"].get("containerStatuses", ())


def _ended(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Get how a container failed: now, or before its restart."""
    for state in (status.get("state", {}), status.get("lastState", {})):
        end: Mapping[str, Any] = state.get("terminated") or {}
        if end and end.get("exitCode") != 0:
            return end
    return {}


def _name(pod: Pod) -> str:
    return str(pod["metadata"]["name"])


def _logs(pod: Pod, container: str) -> str:
    return f"kubectl -n offers logs {_name(pod)} -c {container}"


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def _sentence(line: str) -> str:
    """Get the text of a log line; for a line of JSON its message, if it has one."""
    try:
        content = json.loads(line)
    except ValueError:
        return line.removeprefix(PREFIX)
    if not isinstance(content, dict):
        return line
    return str(content.get("message") or content.get("error") or "")
