"""Reads, changes and awaits one InferenceService of the cluster."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from kubernetes import client, watch

from deployment import rollout
from deployment.rollout import GROUP, MANAGER, PATIENCE, PLURAL, VERSION, RolloutProgress, RolloutTarget
from offers.errors import ServiceError

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
        self.namespace, self.name, self._api = namespace, name, api
        self._place = (GROUP, VERSION, namespace, PLURAL)
        self._objects = client.CustomObjectsApi(api)
        # The generated client has no argument for the type of a patch.
        applying = client.ApiClient(api.configuration, "Content-Type", "application/apply-patch+yaml")
        self._applying = client.CustomObjectsApi(applying)

    def read(self) -> dict[str, Any]:
        """Read the object as it is now."""
        with self._calls("read"):
            service: dict[str, Any] = self._objects.get_namespaced_custom_object(*self._place, self.name)
            return service

    def find(self) -> dict[str, Any] | None:
        """Read the object as it is now; None where there is none."""
        try:
            return self.read()
        except CallError as error:
            if error.status == 404:
                return None
            raise

    def sibling(self, name: str) -> "InferenceService":
        """Another service of the same namespace."""
        return InferenceService(self._api, self.namespace, name)

    def make(self, body: dict[str, Any]) -> None:
        """Make the service, or change it to what the body says."""
        self._apply(body)

    def remove(self) -> None:
        """Delete the service, if it is there."""
        if self.find() is not None:
            with self._calls("delete"):
                self._objects.delete_namespaced_custom_object(*self._place, self.name)

    def apply(self, target: RolloutTarget) -> dict[str, Any]:
        """Take ownership of the fields of a roll-out, and change no other; returns the changed object.

        Raises
        ------
        ServiceError
            the service does not exist, the cluster refuses, or the definitions don't describe single fields, as with
            KServe's minimal ones, so that the whole spec would be replaced
        """
        service, body = self.read(), target.body(self.namespace, self.name)
        if not rollout.keeps(service["spec"], self._apply(body, dry_run="All")["spec"]):
            raise ServiceError(
                f"can't change {self}: KServe's definitions here would drop the fields that are not named; install the"
                " full ones, the chart kserve-crd, in place of kserve-crd-minimal"
            )
        return self._apply(body)

    def _apply(self, body: dict[str, Any], **options: str) -> dict[str, Any]:
        with self._calls("change"):
            resource: dict[str, Any] = self._applying.patch_namespaced_custom_object(
                *self._place, self.name, body, field_manager=MANAGER, force=True, **options
            )
            return resource

    def wait(self, seconds: int, since: int, patience: float = PATIENCE) -> None:
        """Wait until the service is ready with the release that was applied.

        Parameters
        ----------
        since : value of `rollout.seen` once the controller has seen the change
        patience : seconds for which a failure must last before it counts

        Raises
        ------
        ServiceError
            the service has failed, or is not ready in time; the message has the controller's reason
        """
        reason, progress = "its controller said nothing", RolloutProgress(since, patience)
        for service in self._states(seconds):
            state, reason = progress.update(service, time.monotonic())
            if state == "ready":
                return
            if state == "failed":
                raise ServiceError(f"{self} can't take up its release: {reason}")
        raise ServiceError(f"{self} is not ready after {seconds} seconds: {reason}")

    def _states(self, seconds: int) -> Iterator[dict[str, Any]]:
        """Yield the object after each change, and from time to time; a watch that ends too early is restarted."""
        deadline, contact = time.monotonic() + seconds, False
        while (rest := deadline - time.monotonic()) > 0:
            ends = time.monotonic() + min(rest, LOOK)
            try:
                for service in self._watch(math.ceil(min(rest, LOOK))):
                    contact = True
                    yield service
            except CallError:
                # An API server that restarts does not answer at first, and then refuses everybody until its Roles
                # are loaded.
                if not contact or rest <= PAUSE:
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
            raise CallError(f"can't {verb} {self}: {hint}: {_message(error)}", error.status) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise CallError(f"can't {verb} {self}: the cluster does not answer: {str(error)[:200]}") from None


class CallError(ServiceError):
    """The cluster did not answer, or refused with a `status`."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


_HINTS = {
    401: "the cluster does not know who asks (401); log in again",
    403: "it is refused, or the account that asks may not (403); the Role deploy-release grants offers/offers",
    404: "there is none of that name, or KServe is not installed (404); 'make deploy' makes it",
    409: "somebody else changed it at the same time (409); try again",
}


def _message(error: client.ApiException) -> str:
    """Get the server's own sentence, which names the account, or the webhook that refuses."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
