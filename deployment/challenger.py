"""The challenger of a canary on a cluster: an InferenceService with a predictor alone, and an arm of the routing."""

from collections.abc import Mapping
from typing import Any

from deployment import rollout
from deployment.inference_service import InferenceService
from offers.errors import ServiceError
from offers.experiments.experiment import CANARY, Experiment, ExperimentArm, conflict
from offers.governance.canary import CHALLENGER, Canary
from offers.governance.release import OpenRelease, key
from serving.ranker.routing import Routing
from serving.ranker.routing_source import RoutingObject

GRPC_PORT = 8086
"""Of a predictor, as the ServingRuntime declares it. KServe's Service has a port of the same number."""
_OWN = "serving.kserve.io/"
_COPIED = (
    "annotations",
    "serviceAccountName",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "securityContext",
)


class Challenger:
    """Lets the release of a canary answer its share of the customers, beside what a service serves.

    Parameters
    ----------
    champion : the service whose ranker asks the challenger's predictor, too
    routing : the routing that this ranker follows
    seconds : time to wait for the predictor to be ready
    """

    def __init__(self, champion: InferenceService, routing: RoutingObject, seconds: int) -> None:
        self.champion, self.routing, self.seconds = champion, routing, seconds
        self.service = champion.sibling(f"{champion.name}-challenger")
        self._arm: tuple[str, float] = ("", 0.0)

    def answer(self, canary: Canary, release: OpenRelease, uri: str) -> None:
        """Bring the predictor up, and the routing to the canary's share.

        Raises
        ------
        ServiceError
            the predictor does not get ready, or an experiment has these customers
        """
        if self._arm == (canary.name, canary.share):
            return
        present = self.service.find()
        changed = present is None or rollout.present(present).uri != uri
        self.service.make(_body(self.champion.read(), self.service, uri))
        self.service.wait(self.seconds, rollout.seen(present or {}) + changed)
        arm = ExperimentArm(
            name=CHALLENGER,
            share=canary.share,
            predictor=f"{self.service.name}-predictor.{self.service.namespace}.svc:{GRPC_PORT}",
            bundle=release.bundle.name,
            directory=key(release.name),
        )
        self._route(Experiment(name=canary.name, arms=(arm,)))
        self._arm = canary.name, canary.share

    def clear(self) -> None:
        """Have what serves answer everybody, then remove the predictor; nothing changes where there is none."""
        self._route(None)
        self.service.remove()
        self._arm = "", 0.0

    def _route(self, canary: Experiment | None) -> None:
        present = self.routing.read()
        if present is None:
            if canary is None:
                return
            raise ServiceError(f"{self.routing.where}: there is no routing; 'offers deploy' writes it")

        def change(routing: Routing) -> Routing:
            own = (canary,) if canary else ()
            experiments = *(one for one in routing.experiments if not one.name.startswith(CANARY)), *own
            if reason := conflict(experiments):
                raise ServiceError(f"{reason}, and a canary takes part in all: stop the experiment first")
            return routing.model_copy(update={"experiments": experiments})

        if change(present) != present:
            self.routing.update(change)


def _body(champion: Mapping[str, Any], service: InferenceService, uri: str) -> dict[str, Any]:
    """Build a service with the predictor of another one, and nothing beside that."""
    predictor = champion["spec"]["predictor"]
    model = {name: predictor["model"][name] for name in ("modelFormat", "runtime", "protocolVersion", "resources")}
    annotations = champion["metadata"].get("annotations") or {}
    labels = predictor.get("labels", {}) | {"app.kubernetes.io/name": service.name}
    return {
        "apiVersion": f"{rollout.GROUP}/{rollout.VERSION}",
        "kind": "InferenceService",
        "metadata": {
            "name": service.name,
            "namespace": service.namespace,
            "annotations": {name: value for name, value in annotations.items() if name.startswith(_OWN)},
        },
        "spec": {
            "predictor": {name: predictor[name] for name in _COPIED if name in predictor}
            | {"labels": labels, "minReplicas": 1, "maxReplicas": 1, "model": model | {"storageUri": uri}}
        },
    }
