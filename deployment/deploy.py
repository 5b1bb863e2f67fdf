"""An InferenceService through the Kubernetes API: read it, point it to a bundle, wait until it serves that."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from kubernetes import client, config, watch

from deployment import rollout
from deployment.rollout import GROUP, MANAGER, PATIENCE, PLURAL, VERSION, Progress, Target
from deployment.smoke import smoke
from offers.bundle.bundle import Bundle
from offers.errors import OffersError, ServiceError
from offers.settings import Settings
from offers.steps.training import open_bundle

Say = Callable[[str], None]

PAUSE = 1.0
"""Seconds before a watch that has ended too early is begun again."""
LOOK = 10.0
"""Seconds that a watch lasts: it tells changes alone, and so never that a failure has gone on."""


class InferenceService:
    """One InferenceService of a cluster.

    Parameters
    ----------
    api : from `connect`, or a client of another cluster
    """

    def __init__(self, api: client.ApiClient, namespace: str, name: str) -> None:
        self.namespace, self.name = namespace, name
        self._place = (GROUP, VERSION, namespace, PLURAL)
        self._objects = client.CustomObjectsApi(api)
        # The generated client has no argument for the type of a patch.
        applying = client.ApiClient(api.configuration, "Content-Type", "application/apply-patch+yaml")
        self._applying = client.CustomObjectsApi(applying)

    def read(self) -> dict[str, Any]:
        """The object as it is now."""
        with self._calls("read"):
            found: dict[str, Any] = self._objects.get_namespaced_custom_object(*self._place, self.name)
            return found

    def apply(self, target: Target) -> dict[str, Any]:
        """Take over the two fields of a roll-out, and change no other; the object as it is then.

        Raises
        ------
        ServiceError
            it is not there, the cluster refuses, or the definitions don't tell its fields apart, as KServe's minimal
            ones don't: the whole spec would be replaced
        """
        found, body = self.read(), target.body(self.namespace, self.name)
        if not rollout.keeps(found["spec"], self._apply(body, dry_run="All")["spec"]):
            raise ServiceError(
                f"can't change {self}: KServe's definitions here would drop the fields that are not named; install the"
                " full ones, the chart kserve-crd, in place of kserve-crd-minimal"
            )
        return self._apply(body)

    def _apply(self, body: dict[str, Any], **options: str) -> dict[str, Any]:
        with self._calls("change"):
            changed: dict[str, Any] = self._applying.patch_namespaced_custom_object(
                *self._place, self.name, body, field_manager=MANAGER, force=True, **options
            )
            return changed

    def wait(self, seconds: int, since: int, patience: float = PATIENCE) -> None:
        """Wait until it is ready with what it was told.

        Parameters
        ----------
        since : what `rollout.seen` is once its controller has seen the change
        patience : seconds for which a failure has to last before it is believed

        Raises
        ------
        ServiceError
            it has failed, or is not ready in time: says why, in its controller's words
        """
        reason, progress = "its controller said nothing", Progress(since, patience)
        for found in self._states(seconds):
            state, reason = progress.update(found, time.monotonic())
            if state == "ready":
                return
            if state == "failed":
                raise ServiceError(f"{self} can't take up its bundle: {reason}")
        raise ServiceError(f"{self} is not ready after {seconds} seconds: {reason}")

    def _states(self, seconds: int) -> Iterator[dict[str, Any]]:
        """The object as it is, after each change, and from time to time; a watch that ends too early is begun again."""
        deadline, heard = time.monotonic() + seconds, False
        while (left := deadline - time.monotonic()) > 0:
            ends = time.monotonic() + min(left, LOOK)
            try:
                for found in self._watch(math.ceil(min(left, LOOK))):
                    heard = True
                    yield found
            except _CallError:
                # An API server that restarts is away for a while, and then refuses until it has read its Roles.
                if not heard or left <= PAUSE:
                    raise
            time.sleep(max(0.0, min(PAUSE, ends - time.monotonic())))

    def _watch(self, seconds: int) -> Iterator[dict[str, Any]]:
        with self._calls("watch"):
            for event in watch.Watch().stream(
                self._objects.list_namespaced_custom_object,
                *self._place,
                field_selector=f"metadata.name={self.name}",
                timeout_seconds=seconds,
                _request_timeout=(5, seconds + 5),
            ):
                if event["type"] == "DELETED":
                    raise ServiceError(f"{self} was deleted while it was waited for")
                yield event["object"]

    def __str__(self) -> str:
        return f"InferenceService {self.namespace}/{self.name}"

    @contextmanager
    def _calls(self, verb: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            hint = _HINTS.get(error.status, f"the cluster answers {error.status}")
            raise _CallError(f"can't {verb} {self}: {hint}: {_message(error)}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _CallError(f"can't {verb} {self}: the cluster does not answer: {str(error)[:200]}") from None


class _CallError(ServiceError):
    """The cluster did not answer, or refused."""


_HINTS = {
    401: "the cluster does not know who asks (401); log in again",
    403: "it is refused, or the account that asks may not (403); the Role deploy-bundle grants offers/offers",
    404: "there is none of that name, or KServe is not installed (404); 'make deploy' makes it",
    409: "somebody else changed it at the same time (409); try again",
}


def _message(error: client.ApiException) -> str:
    """The server's own sentence, which names the account, or the webhook that refuses."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def roll_out(
    service: InferenceService,
    target: Target,
    smoke: Callable[[str], None],
    seconds: int,
    say: Say = print,
    patience: float = PATIENCE,
) -> None:
    """Point a service to a bundle, wait until it is ready, and ask it a question; return to where it was if it fails.

    Parameters
    ----------
    smoke : takes the bundle's URI, and raises ServiceError where it is not served as it should be
    seconds : to wait for the service to be ready
    patience : seconds for which a failure has to last before it is believed

    Raises
    ------
    ServiceError
        the bundle could not be served; the message says so, and what is served now
    """
    before = rollout.present(service.read())
    changed = service.apply(target)
    since = rollout.seen(changed) + (before.uri != target.uri)
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
    before: Target,
    smoke: Callable[[str], None],
    since: int,
    seconds: int,
    patience: float,
) -> str:
    """Go back to the bundle before; a sentence of how that went."""
    try:
        seen = rollout.seen(service.apply(before))
        # A change that was never seen can't be seen to be undone.
        service.wait(seconds, seen + (seen >= since), patience)
    except ServiceError as error:
        return f"{service} has not returned to {before.uri}: {error}"
    try:
        # Kubernetes takes up the former ReplicaSet, and calls the Deployment complete before its pods are there.
        smoke(before.uri)
    except OffersError as error:
        return f"{service} says that it has returned to {before.uri}, but its answers don't show it: {error}"
    return f"{service} has returned to {before.uri}"


def deploy(uri: str, service: str, smoke_url: str, seconds: int, settings: Settings, say: Say = print) -> None:
    """Roll a bundle out to a service of the cluster that this process runs in or kubectl talks to.

    Parameters
    ----------
    uri : of the bundle, s3://bucket/prefix/name
    service : NAMESPACE/NAME of the InferenceService
    smoke_url : where its predictor answers, for the golden rows
    seconds : to wait for it to be ready

    Raises
    ------
    BundleError, StorageError
        there is no such bundle, or it is damaged; nothing was changed then
    ServiceError
        it could not be served
    """
    where = _service(service)
    _fetched(uri, settings)
    roll_out(where, rollout.forward(where.read(), uri), _smoking(smoke_url, settings, seconds), seconds, say)


def roll_back(service: str, smoke_url: str, seconds: int, settings: Settings, say: Say = print) -> None:
    """Return a service to the bundle before the present one; raises as `deploy` does."""
    where = _service(service)
    target = rollout.back(where.read())
    _fetched(target.uri, settings)
    roll_out(where, target, _smoking(smoke_url, settings, seconds), seconds, say)


def _service(name: str) -> InferenceService:
    namespace, slash, short = name.partition("/")
    if not (namespace and slash and short):
        raise ServiceError(f"service {name!r}: expected NAMESPACE/NAME, as in offers/offers")
    return InferenceService(connect(), namespace, short)


def _smoking(url: str, settings: Settings, seconds: int) -> Callable[[str], None]:
    return lambda uri: smoke(url, _fetched(uri, settings), seconds)


def _fetched(uri: str, settings: Settings) -> Bundle:
    if not uri.startswith("s3://"):
        raise ServiceError(f"bundle {uri!r}: expected s3://bucket/prefix/name, which pods on a cluster can reach")
    return open_bundle(uri, settings)


def connect() -> client.ApiClient:
    """The cluster that this process runs in, or else the one that kubectl talks to.

    Raises
    ------
    ServiceError
        there is neither
    """
    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config()
        except (config.ConfigException, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ServiceError(
                f"no cluster is configured: {reason}; 'kubectl config get-contexts' lists them"
            ) from None
    return client.ApiClient()
