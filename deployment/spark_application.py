"""Runs one SparkApplication of Kubeflow's Spark operator: creates it once, waits for its end, says why it failed."""

import json
import time
from typing import Any

import urllib3
from kubernetes import client

from offers.errors import ServiceError
from offers.steps.spark_scoring import mistake
from offers.wording import Say

GROUP, VERSION, PLURAL = "sparkoperator.k8s.io", "v1beta2", "sparkapplications"
PAUSE = 5.0
"""Seconds between two looks."""
PATIENCE = 120.0
"""Seconds that the operator may take to begin, and that a cluster may be away."""
_LINES = 200
_COMPLETED, _FAILED = "COMPLETED", "FAILED"
_HINTS = {
    401: "the cluster does not know who asks (401)",
    403: "the account that asks may not (403); the Role spark-scoring grants it",
    404: "Kubeflow's Spark operator is not installed (404); docs/batch.md says how",
    409: "it is being deleted (409); run this again when it is gone",
    422: "the operator's definition refuses it (422)",
}


class SparkApplication:
    """One SparkApplication of a cluster.

    Parameters
    ----------
    api : from `deployment.cluster.connect`, or a client of another cluster
    body : the object to create; its namespace and name say which one is meant
    pause, patience : seconds, see `PAUSE` and `PATIENCE`
    """

    def __init__(
        self, api: client.ApiClient, body: dict[str, Any], pause: float = PAUSE, patience: float = PATIENCE
    ) -> None:
        self._body, self._pause, self._patience = body, pause, patience
        self.namespace, self.name = body["metadata"]["namespace"], body["metadata"]["name"]
        self._place = (GROUP, VERSION, self.namespace, PLURAL)
        self._objects, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)

    def __str__(self) -> str:
        return f"SparkApplication {self.namespace}/{self.name}"

    def run(self, seconds: float, say: Say = print) -> None:
        """Run the application to its end.

        One that is there already is waited for, so a step that is repeated starts nothing twice. One that has failed is
        deleted, and made anew.

        Parameters
        ----------
        seconds : time for all of it; after that the application is deleted

        Raises
        ------
        ServiceError
            the operator is absent or refuses, the application failed or was lost, or it took too long
        """
        deadline = time.monotonic() + seconds
        self._begin(deadline, say)
        state, since, contact = "", time.monotonic(), time.monotonic()
        while time.monotonic() < deadline:
            try:
                application = self._read()
            except AbsentError:
                raise ServiceError(f"{self} was deleted while it was waited for") from None
            except ServiceError as error:
                if not error.passes or time.monotonic() - contact > self._patience:
                    raise
                time.sleep(self._pause)
                continue
            contact, before = time.monotonic(), state
            state, message = _state(application)
            if state != before:
                since = contact
                say(f"{self}: {state}")
            if state == _COMPLETED:
                return
            if state == _FAILED:
                raise ServiceError(f"{self} failed: {self._driver_mistake(application) or message}")
            if state in ("", "UNKNOWN") and contact - since > self._patience:
                raise ServiceError(
                    f"{self}: the Spark operator says nothing of it for {self._patience:.0f} seconds; see whether it"
                    f" runs, and whether it watches namespace {self.namespace}"
                )
            time.sleep(self._pause)
        self._delete()
        raise ServiceError(f"{self} was stopped, because it was {state or 'not begun'} after {seconds:.0f} seconds")

    def _begin(self, deadline: float, say: Say) -> None:
        while not self._created():
            try:
                state, _ = _state(self._read())
                if state != _FAILED:
                    say(f"{self} is there already")
                    return
                self._delete()
            except AbsentError:
                continue
            if time.monotonic() > deadline:
                raise ServiceError(f"{self} has failed, and does not go away")
            time.sleep(self._pause)
        say(f"{self} is created")

    def _created(self) -> bool:
        try:
            self._call("create", self._objects.create_namespaced_custom_object, *self._place, self._body)
        except PresentError:
            return False
        return True

    def _read(self) -> dict[str, Any]:
        application: dict[str, Any] = self._call(
            "read", self._objects.get_namespaced_custom_object, *self._place, self.name
        )
        return application

    def _delete(self) -> None:
        self._call("delete", self._objects.delete_namespaced_custom_object, *self._place, self.name)

    def _driver_mistake(self, application: dict[str, Any]) -> str:
        """Find the driver's own sentence in its log; empty where the pod is gone or says none."""
        pod = application["status"].get("driverInfo", {}).get("podName", "")
        try:
            log = self._core.read_namespaced_pod_log(pod, self.namespace, tail_lines=_LINES) if pod else ""
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError):
            return ""
        return mistake(log.splitlines())

    def _call(self, verb: str, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except client.ApiException as error:
            message = f"can't {verb} {self}: {_HINTS.get(error.status, f'the cluster answers {error.status}')}"
            message = f"{message}: {_said(error)}"
            if error.status == 409 and verb == "create":
                raise PresentError(message) from None
            if error.status == 404 and verb != "create":
                raise AbsentError(message) from None
            raise ServiceError(message, passes=error.status in (429, 500, 502, 503, 504)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            message = f"can't {verb} {self}: the cluster does not answer: {str(error)[:200]}"
            raise ServiceError(message, passes=True) from None


class PresentError(ServiceError):
    """An object of that name is there."""


class AbsentError(ServiceError):
    """There is no object of that name."""


def _state(application: dict[str, Any]) -> tuple[str, str]:
    """Read the state, empty before the operator has seen the object, and its message."""
    state = application.get("status", {}).get("applicationState", {})
    return state.get("state", ""), state.get("errorMessage", "") or "the operator gives no reason"


def _said(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
