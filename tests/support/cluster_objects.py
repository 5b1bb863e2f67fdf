"""Objects of a cluster in the form of the real ones, and how the Kubernetes API tells of them."""

from typing import Any

Object = dict[str, Any]

KINDS = {
    "nodes": ("v1", "Node", False),
    "pods": ("v1", "Pod", True),
    "secrets": ("v1", "Secret", True),
    "deployments": ("apps/v1", "Deployment", True),
    "jobs": ("batch/v1", "Job", True),
    "customresourcedefinitions": ("apiextensions.k8s.io/v1", "CustomResourceDefinition", False),
    "validatingwebhookconfigurations": ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", False),
    "inferenceservices": ("serving.kserve.io/v1beta1", "InferenceService", True),
    "workflows": ("argoproj.io/v1alpha1", "Workflow", True),
}
PLATFORM = {
    "cert-manager": ("cert-manager", "cert-manager-cainjector", "cert-manager-webhook"),
    "kserve": ("kserve-controller-manager",),
    "kubeflow": ("ml-pipeline", "ml-pipeline-ui", "mysql", "seaweedfs", "workflow-controller"),
}
CRDS = {
    "cert-manager": ("certificates.cert-manager.io",),
    "kserve": ("inferenceservices.serving.kserve.io", "clusterstoragecontainers.serving.kserve.io"),
    "kubeflow": ("workflows.argoproj.io", "scheduledworkflows.kubeflow.org"),
}


def named(name: str, namespace: str = "", **content: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, "generation": 1}} | content


def condition(kind: str, status: str = "True", **more: str) -> Object:
    return {"conditions": [{"type": kind, "status": status} | more]}


def deployment(namespace: str, name: str, available: int = 1) -> Object:
    counts = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": available, "availableReplicas": available}
    status = condition("Available", "True" if available else "False") | {"observedGeneration": 1}
    # The API leaves out a number that is 0.
    status |= {key: number for key, number in counts.items() if number}
    return named(name, namespace, spec={"replicas": 1, "selector": {"matchLabels": {"app": name}}}, status=status)


def typed(plural: str, one: Object) -> Object:
    version, kind, _ = KINDS[plural]
    return {"apiVersion": version, "kind": kind} | one


def missing(what: str) -> Object:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
    return status | {"message": f"{what} not found"}


def discovery(path: str) -> Object | None:
    versions = sorted({version for version, *_ in KINDS.values()} - {"v1"})
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [{"groupVersion": one, "version": one.partition("/")[2]} for one in versions]
        named = [{"name": one["groupVersion"].partition("/")[0], "versions": [one]} for one in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in ("v1", *versions):
        return None
    resources = [
        {
            "name": name,
            "singularName": kind.lower(),
            "namespaced": spaced,
            "kind": kind,
            "verbs": ["get", "list", "watch"],
        }
        | ({"shortNames": ["crd"]} if name == "customresourcedefinitions" else {})
        for name, (group, kind, spaced) in KINDS.items()
        if group == version
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
