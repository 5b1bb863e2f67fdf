"""Which bundle a service on a cluster should have, and whether it has got there: decisions, and no calls.

An InferenceService is the dict that the Kubernetes API sends. Of its fields the roll-out owns two: the bundle's URI,
and an annotation with the URI before it, which is what a rollback returns to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from offers.errors import ServiceError

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
PREVIOUS = "offers/previous-bundle"
MANAGER = "offers-rollout"

State = Literal["waiting", "ready", "failed"]
_BROKEN = ("BlockedByFailedLoad", "InvalidSpec")


@dataclass(frozen=True)
class Target:
    """The bundle that a service is to have, and the one to return to; both are URIs, the latter may be empty."""

    uri: str
    previous: str

    def body(self, namespace: str, name: str) -> dict[str, Any]:
        """The fields to be applied, and no others."""
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": namespace, "annotations": {PREVIOUS: self.previous}},
            "spec": {"predictor": {"model": {"storageUri": self.uri}}},
        }


def bundle_of(service: Mapping[str, Any]) -> str:
    """URI of the bundle that a service is told to have; empty before the first."""
    model = service.get("spec", {}).get("predictor", {}).get("model", {})
    return str(model.get("storageUri") or "")


def forward(service: Mapping[str, Any], uri: str) -> Target:
    """Move on to a bundle; one that it has already leaves the way back as it is."""
    present = bundle_of(service)
    return Target(uri, _previous(service) if present == uri else present)


def back(service: Mapping[str, Any]) -> Target:
    """Return to the bundle before the present one; to go back twice is to come forward again.

    Raises
    ------
    ServiceError
        there is none
    """
    previous = _previous(service)
    if not previous:
        name = service.get("metadata", {}).get("name", "")
        raise ServiceError(f"service {name!r} has had no bundle before {bundle_of(service) or 'its first'}: deploy one")
    return Target(previous, bundle_of(service))


def state(service: Mapping[str, Any]) -> tuple[State, str]:
    """Whether a service has taken up what it was told, and the reason where it has not."""
    metadata, status = service.get("metadata", {}), service.get("status", {})
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return "waiting", "the controller has not seen the change yet"
    model = status.get("modelStatus", {})
    if model.get("transitionStatus") in _BROKEN:
        failure = model.get("lastFailureInfo", {})
        return "failed", str(failure.get("message") or failure.get("reason") or model["transitionStatus"])
    ready = next((c for c in status.get("conditions", ()) if c.get("type") == "Ready"), None)
    if ready is None:
        return "waiting", "it has no Ready condition yet"
    if ready.get("status") == "True":
        return "ready", ""
    return "waiting", str(ready.get("message") or ready.get("reason") or "not ready")


def _previous(service: Mapping[str, Any]) -> str:
    return str((service.get("metadata", {}).get("annotations") or {}).get(PREVIOUS, ""))
