"""The status of Offers on a cluster: a line for each part, with a remedy for each part that is not well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deployment.trouble import Pod, Trouble, Words, ready, refused, trouble_of

Object = Mapping[str, Any]

PLATFORM = ("cert-manager", "kserve", "kubeflow")
TOLD = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""Annotation by which KServe tells a pod which release to fetch."""
_CONTROLLER = "kserve/kserve-controller-manager"


@dataclass(frozen=True)
class Snapshot:
    """The state of a cluster at a moment, in the form of its API.

    A part that could not be read is a sentence that says why. `service` is None where there is no InferenceService;
    `pods` are the service's pods.
    """

    context: str
    nodes: Sequence[Object] | str
    deployments: Sequence[Object] | str
    service: Object | str | None
    pods: Sequence[Pod] | str
    words: Words


@dataclass(frozen=True)
class Line:
    """The status of one part; `remedy` is empty where the part is well, or where no remedy is known."""

    part: str
    text: str
    remedy: str = ""


def judge(cluster: Snapshot) -> list[Line]:
    """Judge nodes, platform, service, release and trigger, with a line for each."""
    return [
        _nodes(cluster.nodes),
        _platform(cluster.deployments),
        *_service(cluster),
        _trigger(cluster.deployments),
    ]


def _nodes(nodes: Sequence[Object] | str) -> Line:
    if isinstance(nodes, str):
        return Line("nodes", nodes)
    away = [_name(node) for node in nodes if not ready(node)]
    if not away:
        return Line("nodes", f"{len(nodes)} ready")
    return Line(
        "nodes",
        f"of {len(nodes)} not ready: {' '.join(away)}",
        f"'kubectl describe node {away[0]}' says why",
    )


def _platform(deployments: Sequence[Object] | str) -> Line:
    if isinstance(deployments, str):
        return Line("platform", deployments)
    parts = [one for one in deployments if one["metadata"]["namespace"] in PLATFORM]
    absent = [name for name in PLATFORM if not any(one["metadata"]["namespace"] == name for one in parts)]
    if absent:
        return Line("platform", f"not installed: {' '.join(absent)}", "'make platform' installs it")
    stopped = [_full(one) for one in parts if one["spec"].get("replicas", 1) == 0]
    if stopped:
        namespace, _, name = stopped[0].partition("/")
        return Line(
            "platform",
            f"scaled to zero: {' '.join(stopped)}",
            f"'kubectl -n {namespace} scale deployment/{name} --replicas=1' starts it{_without_controller(stopped)}",
        )
    away = [_full(one) for one in parts if not _available(one)]
    if away:
        return Line(
            "platform",
            f"of {len(parts)} deployments not available: {' '.join(away)}",
            f"they may be starting; 'kubectl get pods -A' shows those that fail{_without_controller(away)}",
        )
    return Line("platform", f"{len(parts)} deployments available")


def _without_controller(away: Sequence[str]) -> str:
    return "; what serves goes on, but no serving pod starts until then" if _CONTROLLER in away else ""


def _service(cluster: Snapshot) -> list[Line]:
    service, pods = cluster.service, cluster.pods
    if isinstance(service, str):
        return [Line("service", service)]
    if service is None:
        return [Line("service", "there is no InferenceService offers/offers", "'make deploy' makes it")]
    if isinstance(pods, str):
        return [Line("service", pods)]
    uri = str(service["spec"]["predictor"].get("model", {}).get("storageUri") or "")
    answering = [pod for pod in pods if ready(pod)]
    if not uri:
        return _without_release(answering)
    replicas = service["spec"]["predictor"].get("minReplicas", 1)
    trouble = _trouble(cluster, pods, uri)
    if not answering:
        return [
            Line("service", "no pod answers", "see the line 'release'"),
            _release(uri, [], replicas, trouble),
        ]
    return [Line("service", f"{len(answering)} of {replicas} pods answer"), _release(uri, answering, replicas, trouble)]


def _without_release(answering: Sequence[Pod]) -> list[Line]:
    former = next((sentence for pod in answering if (sentence := _told(pod))), "")
    if former:
        return [
            Line("service", f"names no release, and {len(answering)} pod(s) of before still answer"),
            Line("release", f"none; {_short(former)} is served still", "'offers deploy' names the champion again"),
        ]
    return [
        Line("service", "waits for its first release"),
        Line("release", "none", "'make deploy' trains one and deploys it"),
    ]


def _trouble(cluster: Snapshot, pods: Sequence[Pod], uri: str) -> Trouble | None:
    predictor = _deployment(cluster.deployments, "offers-predictor")
    conditions = (predictor or {}).get("status", {}).get("conditions", ())
    failure = next((condition for condition in conditions if condition["type"] == "ReplicaFailure"), None)
    if failure is not None and failure["status"] == "True":
        return refused(failure.get("message", ""))
    meant = [pod for pod in pods if _told(pod) == uri and "deletionTimestamp" not in pod["metadata"]]
    return trouble_of(meant, uri, cluster.context.startswith("kind-"), cluster.words)


def _release(uri: str, answering: Sequence[Pod], replicas: int, trouble: Trouble | None) -> Line:
    name = _short(uri)
    having = [pod for pod in answering if _told(pod) == uri]
    others = sorted({_short(_told(pod)) or "none" for pod in answering if _told(pod) != uri})
    meanwhile = f"; meanwhile {' and '.join(others)} is served" if others else ""
    lasting = [pod for pod in having if "deletionTimestamp" not in pod["metadata"]]
    if len(lasting) >= replicas and not others:
        return Line("release", f"{name} is served")
    if trouble is not None and having:
        ending = " that ends" if not lasting else ""
        return Line("release", f"{name} is served by {len(having)} pod(s){ending}: {trouble.reason}", trouble.remedy)
    if trouble is not None:
        verb = "is not served yet" if trouble.passes else "can't be served"
        return Line("release", f"{name} {verb}: {trouble.reason}{meanwhile}", trouble.remedy)
    return Line("release", f"{name} is on its way{meanwhile}", "wait, and ask again")


def _trigger(deployments: Sequence[Object] | str) -> Line:
    if isinstance(deployments, str):
        return Line("trigger", deployments)
    trigger = _deployment(deployments, "retraining-trigger")
    if trigger is None:
        return Line("trigger", "there is no deployment offers/retraining-trigger", "'make deploy' makes it")
    if trigger["spec"].get("replicas", 1) == 0:
        start = "'kubectl -n offers scale deployment/retraining-trigger --replicas=1' starts it"
        return Line("trigger", "scaled to zero, so that no alarm starts a training", start)
    if not _available(trigger):
        return Line("trigger", "not available", "'kubectl -n offers logs deployment/retraining-trigger' says why")
    return Line("trigger", "available")


def _deployment(deployments: Sequence[Object] | str, name: str) -> Object | None:
    if isinstance(deployments, str):
        return None
    return next((one for one in deployments if _full(one) == f"offers/{name}"), None)


def _available(deployment: Object) -> bool:
    return bool(deployment.get("status", {}).get("availableReplicas", 0) >= deployment["spec"].get("replicas", 1))


def _told(pod: Pod) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(TOLD, ""))


def _full(item: Object) -> str:
    return f"{item['metadata']['namespace']}/{_name(item)}"


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])


def _short(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]
