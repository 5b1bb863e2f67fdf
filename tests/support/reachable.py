"""Services behind a double of the Kubernetes API, which forwards to what listens on this machine."""

import base64
from typing import Any

from tests.support.kubernetes_double import KubernetesDouble
from tests.support.s3_double import S3Double

SERVICES, PODS = "/api/v1/namespaces/{}/services/{}", "/api/v1/namespaces/{}/pods"


def pod(name: str, ready: bool = True, ending: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {"app": "predictor"}}
    if ending:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    port = {"name": "metrics", "containerPort": 18085}
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "main", "image": "x:1", "ports": [port]}]},
        "status": status,
    }


def served(double: KubernetesDouble, namespace: str, service: str, port: int, *pods: dict[str, Any]) -> None:
    """A service whose pods listen at the port `metrics`."""
    spec = {"selector": {"app": "predictor"}, "ports": [{"port": port, "targetPort": "metrics"}]}
    double.others[SERVICES.format(namespace, service)] = {"metadata": {"name": service}, "spec": spec}
    double.others[PODS.format(namespace)] = {"items": list(pods)}


def in_cluster(double: KubernetesDouble, s3: S3Double, bucket: str = "") -> None:
    """The store of a namespace as the manifests leave it: an endpoint of the cluster, keys in a Secret."""
    served(double, "kubeflow", "seaweedfs", 9000, pod("store"))
    host, _, port = s3.address.partition(":")
    double.forwards["store"] = host, int(port)
    place = "/api/v1/namespaces/bank"
    settings = {"OFFERS_S3_ENDPOINT": "http://seaweedfs.kubeflow:9000", "AWS_REGION": "us-east-1"}
    settings |= {"OFFERS_BUCKET": bucket} if bucket else {}
    double.others[f"{place}/configmaps/offers-settings"] = {"data": settings}
    keys = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine"}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()}
    double.others[f"{place}/secrets/object-store"] = {"data": data}
