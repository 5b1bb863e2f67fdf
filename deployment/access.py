"""Lets a person's machine reach the object store and the predictor, which a deployment needs.

The environment's settings come first. Missing ones are read from the service's namespace, and reached by port forwards.
"""

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client
from pydantic import SecretStr

from deployment.forwarding import forwarded
from offers.errors import ServiceError
from offers.settings import S3Settings, Settings

SETTINGS, KEYS = "offers-settings", "object-store"
"""Names of the ConfigMap with the store's endpoint and the Secret with its keys."""
PREDICTOR, PREDICTOR_PORT = "predictor", 8085

Connect = Callable[[], client.ApiClient]


@dataclass(frozen=True)
class Access:
    """Settings that reach the object store, and the address of the predictor."""

    settings: Settings
    predictor: str


@contextmanager
def access(connect: Connect, namespace: str, settings: Settings, predictor: str = "") -> Iterator[Access]:
    """Reach the store and the predictor of the service in a namespace, for as long as the block lasts.

    Parameters
    ----------
    connect : returns the cluster's API; not called if the environment has all settings
    settings : used unchanged if they name the store's endpoint; else the ledger is that of the bucket, if none is named
    predictor : the predictor's address; if empty, it is reached by a port forward

    Raises
    ------
    ServiceError
        the account lacks the right to read the settings, or to forward ports
    """
    with ExitStack() as stack:
        reached = stack.enter_context(store_access(connect, namespace, settings))
        if not predictor:
            address = stack.enter_context(forwarded(connect(), namespace, PREDICTOR, PREDICTOR_PORT, expected=False))
            predictor = f"http://{address}"
        yield Access(reached, predictor)


@contextmanager
def store_access(connect: Connect, namespace: str, settings: Settings) -> Iterator[Settings]:
    """Yield settings that reach the object store of a namespace; raises as `access` does."""
    if settings.s3.endpoint:
        yield settings
        return
    api = connect()
    core = client.CoreV1Api(api)
    settings_map = (
        _read(core.read_namespaced_config_map, SETTINGS, namespace, "ConfigMap", "set OFFERS_S3_ENDPOINT").data or {}
    )
    endpoint, region = settings_map.get("OFFERS_S3_ENDPOINT", ""), settings_map.get("AWS_REGION", "")
    secure = not endpoint.startswith("http://")
    host = endpoint.removeprefix("https://").removeprefix("http://").rstrip("/")
    access = settings.s3.model_copy(update={"secure": secure, "region": settings.s3.region or region})
    access = _with_keys(core, namespace, access)
    with ExitStack() as stack:
        name, _, port = host.partition(":")
        service, _, place = name.partition(".")
        if place.partition(".")[2] in ("", "svc", "svc.cluster.local") and place:
            number = int(port) if port.isdecimal() else 80
            host = stack.enter_context(forwarded(api, place.partition(".")[0], service, number))
        bucket = settings_map.get("OFFERS_BUCKET", "")
        ledger = settings.ledger or (f"s3://{bucket}" if bucket else "")
        yield settings.model_copy(update={"s3": access.model_copy(update={"endpoint": host}), "ledger": ledger})


def _with_keys(core: client.CoreV1Api, namespace: str, settings: S3Settings) -> S3Settings:
    """Take the keys of the environment, or else of the Secret; a role needs neither."""
    if settings.access_key or settings.role_arn:
        return settings
    remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    data = _read(core.read_namespaced_secret, KEYS, namespace, "Secret", remedy).data or {}
    keys = {name: base64.b64decode(value).decode() for name, value in data.items()}
    return settings.model_copy(
        update={
            "access_key": keys.get("AWS_ACCESS_KEY_ID", ""),
            "secret_key": SecretStr(keys.get("AWS_SECRET_ACCESS_KEY", "")),
        }
    )


def _read(call: Any, name: str, namespace: str, kind: str, remedy: str) -> Any:
    try:
        return call(name, namespace)
    except client.ApiException as error:
        hints = {403: "the account that asks may not read it", 404: "there is none of that name"}
        hint = hints.get(error.status, f"the cluster answers {error.status} {error.reason}")
        raise ServiceError(f"can't read {kind} {namespace}/{name}: {hint}; {remedy}") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ServiceError(
            f"can't read {kind} {namespace}/{name}: the cluster does not answer: {str(error)[:200]}"
        ) from None
