"""Rolls out one release: points an InferenceService to it, waits until it serves that, and goes back on failure."""

from collections.abc import Callable

from deployment import rollout
from deployment.inference_service import InferenceService
from deployment.rollout import PATIENCE, RolloutTarget
from offers.errors import OffersError, ServiceError
from offers.wording import Say


def roll_out(
    service: InferenceService,
    target: RolloutTarget,
    smoke: Callable[[str], None],
    seconds: int,
    say: Say = print,
    patience: float = PATIENCE,
) -> None:
    """Point a service to a release, wait until it is ready, and check its answers; on failure return to the old one.

    Parameters
    ----------
    smoke : takes the release's URI, and raises OffersError if it is not served correctly
    seconds : time to wait for the service to be ready
    patience : seconds for which a failure must last before it counts

    Raises
    ------
    ServiceError
        the release could not be served; the message says why, and what is served now
    """
    before = rollout.present(service.read())
    resource = service.apply(target)
    since = rollout.seen(resource) + (before.uri != target.uri)
    say(f"{service} is told to serve {target.uri}")
    try:
        service.wait(seconds, since, patience)
        smoke(target.uri)
    except OffersError as error:
        if before.uri in ("", target.uri):
            raise ServiceError(f"{error}; there is no earlier release to return to") from None
        say(f"{error}; returning to {before.uri}")
        raise ServiceError(f"{error}; {_return(service, before, smoke, since, seconds, patience)}") from None
    say(f"{service} serves {target.uri}")


def _return(
    service: InferenceService,
    before: RolloutTarget,
    smoke: Callable[[str], None],
    since: int,
    seconds: int,
    patience: float,
) -> str:
    """Go back to the release before; returns a sentence about the result."""
    try:
        generation = rollout.seen(service.apply(before))
        # If the controller never saw the change, it would be wrong to wait until it has seen one more.
        service.wait(seconds, generation + (generation >= since), patience)
    except ServiceError as error:
        return f"{service} has not returned to {before.uri}: {error}"
    try:
        # Kubernetes reuses the former ReplicaSet, and calls the Deployment complete before its pods exist.
        smoke(before.uri)
    except OffersError as error:
        return f"{service} says that it has returned to {before.uri}, but its answers don't show it: {error}"
    return f"{service} has returned to {before.uri}"
