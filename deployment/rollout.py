"""Decides which release a service on a cluster should have, and whether it has it; makes no calls.

An InferenceService is the dict that the Kubernetes API sends. The roll-out owns two of its fields: the release's URI,
and an annotation with the end of the ledger. Which release served before is the ledger's affair.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
HEAD = "offers/ledger-head"
MANAGER = "offers-rollout"

PATIENCE = 60.0
"""Seconds for which a failure has to last before it is believed.

The kubelet starts a failed container again after 10 seconds, then after 20, then after 40: an object store that is
away for a moment costs a try or two.
"""

State = Literal["unseen", "refused", "waiting", "ready", "failed"]
_BROKEN = ("BlockedByFailedLoad", "InvalidSpec")
_REFUSED = "FailedCreate"
"""Reason of a Deployment whose pods a quota or a webhook refuses; KServe copies it into its conditions."""


@dataclass(frozen=True)
class RolloutTarget:
    """URI of the release that a service should have.

    `head` is the end of the ledger when the release was rolled out; whoever verifies the ledger finds it there.
    """

    uri: str
    head: str = ""

    def body(self, namespace: str, name: str) -> dict[str, Any]:
        """Build the fields to apply, and no others."""
        annotations = {HEAD: self.head} if self.head else {}
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
            "spec": {"predictor": {"model": {"storageUri": self.uri}}},
        }


def present(service: Mapping[str, Any]) -> RolloutTarget:
    """Read a service's present target; the URI is empty before its first release."""
    model = service.get("spec", {}).get("predictor", {}).get("model", {})
    annotations = service.get("metadata", {}).get("annotations") or {}
    return RolloutTarget(str(model.get("storageUri") or ""), str(annotations.get(HEAD, "")))


def keeps(before: object, after: object) -> bool:
    """Whether every field of an object is still there, whatever its value."""
    if not isinstance(before, Mapping):
        return True
    return isinstance(after, Mapping) and all(key in after and keeps(before[key], after[key]) for key in before)


def seen(service: Mapping[str, Any]) -> int:
    """Count the changes that the controller has seen.

    KServe copies `observedGeneration` from its Deployment. So it may be lower or higher than the service's own
    generation, and can only be compared with its own earlier values. Each change of the release raises it.
    """
    return int(service.get("status", {}).get("observedGeneration", 0))


def state(service: Mapping[str, Any], since: int) -> tuple[State, str]:
    """Find whether a service has reached its target, and the reason if it has not.

    Parameters
    ----------
    since : value of `seen` once the controller has seen the change
    """
    status = service.get("status", {})
    if seen(service) < since:
        return "unseen", "the controller has not seen the change yet"
    conditions: list[Mapping[str, Any]] = list(status.get("conditions", ()))
    ready = next((one for one in conditions if one.get("type") == "Ready"), {})
    if ready.get("status") == "True":
        return "ready", ""
    refusal = next((one for one in conditions if one.get("reason") == _REFUSED and one.get("message")), None)
    if refusal:
        return "refused", str(refusal["message"])
    model = status.get("modelStatus", {})
    if model.get("transitionStatus") in _BROKEN:
        failure = model.get("lastFailureInfo", {})
        return "failed", str(failure.get("message") or failure.get("reason") or model["transitionStatus"])
    return "waiting", str(ready.get("message") or ready.get("reason") or "it has no Ready condition yet")


class RolloutProgress:
    """Follows a roll-out. A failure counts only if it lasts, because it may pass, or belong to an old pod.

    Parameters
    ----------
    since : value of `seen` once the controller has seen the change
    patience : seconds without any other state after which a failure counts
    """

    def __init__(self, since: int, patience: float = PATIENCE) -> None:
        self._since, self._patience = since, patience
        self._begun = False
        self._failed_at: float | None = None

    def update(self, service: Mapping[str, Any], moment: float) -> tuple[State, str]:
        """Get the result of `state`, with "waiting" for a failure that does not count yet.

        Parameters
        ----------
        moment : time of this call, in seconds on a clock that never goes back
        """
        state_name, reason = state(service, self._since)
        if state_name != "failed":
            # KServe reports the newest pod. If no pod can be made for the change, that is an old one.
            self._begun = state_name == "waiting"
            self._failed_at = None
            return state_name, reason
        # A failure from before the roll-out began belongs to the release before.
        if not self._begun:
            return "waiting", reason
        self._failed_at = moment if self._failed_at is None else self._failed_at
        return ("failed" if moment - self._failed_at >= self._patience else "waiting"), reason
