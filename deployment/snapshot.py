"""Reads the state of a cluster through its API, each part separately, since an account may lack some rights."""

import json
from collections.abc import Mapping
from typing import Any

import urllib3
from kubernetes import client

from deployment.status import Snapshot
from offers.errors import ServiceError

NAMESPACE, NAME = "offers", "offers"
SELECTOR = f"serving.kserve.io/inferenceservice={NAME}"
_SERVICE = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/{NAME}"
_SECONDS = (5, 20)


def snapshot(api: client.ApiClient, context: str) -> Snapshot:
    """Read the parts of a cluster that its status is judged by.

    Raises
    ------
    ServiceError
        no cluster answers, or it does not recognise the account
    """
    reader = _Reader(api)
    return Snapshot(
        context=context,
        nodes=reader.items("/api/v1/nodes", "list nodes"),
        deployments=reader.items("/apis/apps/v1/deployments", "list deployments of all namespaces"),
        service=reader.get(_SERVICE, f"read InferenceService {NAMESPACE}/{NAME}"),
        pods=reader.items(f"/api/v1/namespaces/{NAMESPACE}/pods", f"list pods in {NAMESPACE}", SELECTOR),
        words=reader.words,
    )


class _Reader:
    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    def get(self, path: str, what: str, selector: str = "") -> Mapping[str, Any] | str | None:
        """Get an answer of the API; None where there is nothing, a sentence where it may not be read."""
        query = [("labelSelector", selector)] if selector else []
        try:
            answer = self._api.call_api(
                path,
                "GET",
                query_params=query,
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=_SECONDS,
            )
            content: Mapping[str, Any] = json.loads(answer.data)
        except client.ApiException as error:
            if error.status == 404:
                return None
            if error.status == 403:
                return f"unknown: the account that asks may not {what}"
            if error.status == 401:
                raise ServiceError("the cluster does not know who asks (401); log in again") from None
            return f"unknown: the cluster answers {error.status}: {error.reason}"
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ServiceError(f"the cluster does not answer: {str(error)[:200]}") from None
        except ValueError:
            return "unknown: the cluster's answer is no JSON"
        return content

    def items(self, path: str, what: str, selector: str = "") -> list[Mapping[str, Any]] | str:
        content = self.get(path, what, selector)
        return content if isinstance(content, str) else list((content or {}).get("items") or ())

    def words(self, pod: str, container: str) -> str:
        """Read the last line of a container's log, or of the container before it if it has just restarted.

        The line is empty where the log may not be read.
        """
        core = client.CoreV1Api(self._api)
        for previous in (False, True):
            try:
                log = core.read_namespaced_pod_log(
                    pod, NAMESPACE, container=container, tail_lines=1, previous=previous, _request_timeout=_SECONDS
                )
            except (client.ApiException, urllib3.exceptions.HTTPError, OSError):
                continue
            if str(log).strip():
                return str(log).strip()
        return ""
