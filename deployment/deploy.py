"""Deploys bundles: points an InferenceService to a bundle, waits until it serves that, and goes back on failure."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from deployment import rollout
from deployment.access import Access, access
from deployment.cluster import connect
from deployment.inference_service import InferenceService
from deployment.rollout import PATIENCE, RolloutTarget
from deployment.smoke import smoke
from offers.bundle.location import open_bundle
from offers.errors import OffersError, ServiceError
from offers.governance.access import head_now
from offers.settings import Settings
from offers.wording import Say


def roll_out(
    service: InferenceService,
    target: RolloutTarget,
    smoke: Callable[[str], None],
    seconds: int,
    say: Say = print,
    patience: float = PATIENCE,
) -> None:
    """Point a service to a bundle, wait until it is ready, and check its answers; on failure return to the old bundle.

    Parameters
    ----------
    smoke : takes the bundle's URI, and raises ServiceError if it is not served correctly
    seconds : time to wait for the service to be ready
    patience : seconds for which a failure must last before it counts

    Raises
    ------
    ServiceError
        the bundle could not be served; the message says why, and what is served now
    """
    before = rollout.present(service.read())
    resource = service.apply(target)
    since = rollout.seen(resource) + (before.uri != target.uri)
    say(f"{service} is told to serve {target.uri}")
    try:
        service.wait(seconds, since, patience)
        smoke(target.uri)
    except ServiceError as error:
        if before.uri in ("", target.uri):
            raise ServiceError(f"{error}; there is no earlier bundle to return to") from None
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
    """Go back to the bundle before; returns a sentence about the result."""
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


def deploy(
    uri: str, service: str, smoke_url: str, seconds: int, settings: Settings, say: Say = print, context: str = ""
) -> None:
    """Roll a bundle out to a service of the cluster that this process runs in or that kubectl uses.

    Parameters
    ----------
    uri : the bundle's URI, s3://bucket/prefix/name
    service : NAMESPACE/NAME of the InferenceService
    smoke_url : address at which its predictor answers golden rows; if empty, through the cluster's API
    context : kubectl's context; if empty, the current one
    seconds : time to wait for the service to be ready

    Raises
    ------
    BundleError, StorageError
        there is no such bundle, or it is damaged; then nothing was changed
    ServiceError
        the bundle could not be served
    """
    if not uri.startswith("s3://"):
        raise ServiceError(f"bundle {uri!r}: expected s3://bucket/prefix/name, which pods on a cluster can reach")
    where, namespace = _service(service, context), service.partition("/")[0]
    with access(partial(connect, context), namespace, settings, smoke_url) as reached:
        open_bundle(uri, reached.settings)
        service_now = where.read()
        target = rollout.forward(service_now, uri)
        if target != rollout.present(service_now):
            target = replace(target, head=head_now(reached.settings))
        roll_out(where, target, _smoking(reached, seconds), seconds, say)


def roll_back(
    service: str, smoke_url: str, seconds: int, settings: Settings, say: Say = print, context: str = ""
) -> None:
    """Return a service to the bundle before the present one; raises as `deploy` does."""
    where, namespace = _service(service, context), service.partition("/")[0]
    target = rollout.back(where.read())
    with access(partial(connect, context), namespace, settings, smoke_url) as reached:
        open_bundle(target.uri, reached.settings)
        marked = replace(target, head=head_now(reached.settings))
        roll_out(where, marked, _smoking(reached, seconds), seconds, say)


def _service(name: str, context: str) -> InferenceService:
    namespace, slash, short = name.partition("/")
    if not (namespace and slash and short):
        raise ServiceError(f"service {name!r}: expected NAMESPACE/NAME, as in offers/offers")
    return InferenceService(connect(context), namespace, short)


def _smoking(reached: Access, seconds: int) -> Callable[[str], None]:
    return lambda uri: smoke(reached.predictor, open_bundle(uri, reached.settings), seconds)
