"""Scores an order with Spark: by Kubeflow's Spark operator on a cluster, or with a master on this machine."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client

from deployment.cluster import connect
from deployment.spark_application import SparkApplication
from offers.batch.order import Order
from offers.batch.places import scored_customers
from offers.errors import ServiceError
from offers.settings import Settings
from offers.steps import spark_scoring
from offers.wording import Say

TEMPLATE, KEY = "spark-scoring", "application.yaml"
"""A ConfigMap in the namespace of the applications, and its key: a SparkApplication without image and arguments."""


def score_on_spark(
    orders: Sequence[str], master: str, namespace: str, image: str, seconds: int, settings: Settings, say: Say = print
) -> list[int]:
    """Score a plan's one order with Spark.

    Parameters
    ----------
    orders : as `offers.steps.scoring.plan` writes them for one shard
    master : such as local[2], where Spark runs on this machine; empty for the operator's cluster
    namespace, image : where the SparkApplication runs, and the image of its pods
    seconds : time for all of it

    Returns
    -------
    list of int
        the number of customers in the table, as one shard's

    Raises
    ------
    ServiceError, DataError
        Spark is absent, or failed; the message is Spark's or the driver's reason
    """
    (order,) = orders
    if master:
        log = Path(tempfile.mkdtemp(prefix="offers-spark-")) / "spark.log"
        spark_scoring.score_apart(order, master, log, say)
    else:
        api = connect()
        SparkApplication(api, application(template(api, namespace), namespace, image, order)).run(seconds, say)
    output = Order.model_validate_json(order).output
    customers = scored_customers(output, settings)
    if not customers:
        raise ServiceError(f"Spark ended well, but {output} has no customers; delete the SparkApplication, run again")
    return [customers]


def template(api: client.ApiClient, namespace: str) -> str:
    """Read the text of the SparkApplication that a namespace has for scoring; raises `ServiceError` without one."""
    where = f"ConfigMap {namespace}/{TEMPLATE}"
    try:
        data = client.CoreV1Api(api).read_namespaced_config_map(TEMPLATE, namespace).data or {}
    except client.ApiException as error:
        raise ServiceError(
            f"can't read {where}: the cluster answers {error.status} {error.reason}; manifests/spark makes"
            " it, and the right to read it"
        ) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ServiceError(
            f"can't read {where}: the cluster does not answer: {str(error)[:200]}", passes=True
        ) from None
    if KEY not in data:
        raise ServiceError(f"{where}: expected key {KEY}, got {', '.join(data) or 'none'}")
    return str(data[KEY])


def application(text: str, namespace: str, image: str, order: str) -> dict[str, Any]:
    """Build the SparkApplication of an order; the same order gives the same name, so that it is made once."""
    try:
        body: dict[str, Any] = yaml.safe_load(text)
        labels = body["metadata"].get("labels", {})
        spec = body["spec"] | {"image": image, "arguments": [order]}
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ServiceError(f"ConfigMap {namespace}/{TEMPLATE}: expected a SparkApplication, got {error!r}") from None
    name = f"offers-score-{hashlib.sha256(order.encode()).hexdigest()[:12]}"
    return body | {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec}
