"""An InferenceService through the Kubernetes API: read it, point it to a bundle, wait until it serves that."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from kubernetes import client, config, watch

from offers import rollout
from offers.bundle import Bundle
from offers.errors import ServiceError
from offers.rollout import GROUP, MANAGER, PLURAL, VERSION, Target
from offers.settings import Settings
from offers.smoke import smoke
from offers.training import open_bundle

Say = Callable[[str], None]


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
        # The generated client has no argument for the type of a patch; this is the one of server-side apply.
        applying = client.ApiClient(api.configuration, "Content-Type", "application/apply-patch+yaml")
        self._applying = client.CustomObjectsApi(applying)

    def read(self) -> dict[str, Any]:
        """The object as it is now."""
        with self._calls("read"):
            found: dict[str, Any] = self._objects.get_namespaced_custom_object(*self._place, self.name)
            return found

    def apply(self, target: Target) -> dict[str, Any]:
        """Take over the two fields of a roll-out, and change no other."""
        with self._calls("change"):
            body = target.body(self.namespace, self.name)
            changed: dict[str, Any] = self._applying.patch_namespaced_custom_object(
                *self._place, self.name, body, field_manager=MANAGER, force=True
            )
            return changed

    def wait(self, seconds: int) -> None:
        """Wait until it is ready with what it was told.

        Raises
        ------
        ServiceError
            it has failed, or is not ready in time: says why, in its controller's words
        """
        reason = "its controller said nothing"
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
                state, reason = rollout.state(event["object"])
                if state == "ready":
                    return
                if state == "failed":
                    raise ServiceError(f"{self} can't take up its bundle: {reason}")
        raise ServiceError(f"{self} is not ready after {seconds} seconds: {reason}")

    def __str__(self) -> str:
        return f"InferenceService {self.namespace}/{self.name}"

    @contextmanager
    def _calls(self, verb: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            raise ServiceError(f"can't {verb} {self}: {_REASONS.get(error.status, error.reason)}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ServiceError(f"can't {verb} {self}: the cluster does not answer: {str(error)[:200]}") from None


_REASONS = {
    401: "the cluster does not know who asks (401); log in again",
    403: "the account that asks may not (403); the Role deploy-bundle grants it",
    404: "there is none of that name, or KServe is not installed (404); 'make deploy' makes it",
    409: "somebody else changed it at the same time (409); try again",
}


def roll_out(
    service: InferenceService, target: Target, smoke: Callable[[str], None], seconds: int, say: Say = print
) -> None:
    """Point a service to a bundle, wait until it is ready, and ask it a question; return to where it was if it fails.

    Parameters
    ----------
    smoke : takes the bundle's URI, and raises ServiceError where it is not served as it should be
    seconds : to wait for the service to be ready

    Raises
    ------
    ServiceError
        the bundle could not be served; the message says so, and what is served now
    """
    before = rollout.bundle_of(service.read())
    service.apply(target)
    say(f"{service} is told to serve {target.uri}")
    try:
        service.wait(seconds)
        smoke(target.uri)
    except ServiceError as error:
        if not before or before == target.uri:
            raise ServiceError(f"{error}; there is no earlier bundle to return to") from None
        say(f"{error}; returning to {before}")
        service.apply(Target(before, target.previous if target.previous != before else ""))
        service.wait(seconds)
        raise ServiceError(f"{error}; {service} has returned to {before}") from None
    say(f"{service} serves {target.uri}")


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
