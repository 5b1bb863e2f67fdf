"""The needs of each step on a cluster: resources, time, retries, rights and secrets. Local runs ignore them."""

from typing import TypeVar

from kfp import dsl, kubernetes

from offers.retraining.signature import VARIABLE

Task = TypeVar("Task", bound=dsl.PipelineTask)

USER = 10001
"""Of the pipeline's image; no user of the host has it."""
STORE_SECRET = "offers-object-store"
"""In the namespace of the runs, with the keys of the object store; there is none where the steps have a role."""
SOURCE_SECRET = "offers-source"
"""In the namespace of the runs, with what the URI of a source refers to as ${file:/run/secrets/offers/KEY}."""
SOURCE_SECRETS = "/run/secrets/offers"
KEY_SECRET = "alarm-key"
"""In the namespace of the runs, with the key that signs alarms; without it they are sent unsigned."""
LEDGER_SECRET = "ledger-key"
"""In the namespace of the runs, with the key that signs what pipelines write into the ledger. An admin adds it as a
trainer's; without it nothing is registered."""
LEDGER_KEY = "/run/secrets/ledger"
SETTINGS = "offers-settings"
"""A ConfigMap in the namespace of the runs, with the endpoint of the object store and the place of the ledger."""

PATIENCE = 120
"""Seconds for which a step waits for a store, a source or a database that is away.

Kubeflow does not try a step again that has ended by itself: its own policy takes the place of `set_retry`'s.
"""

DAY = 24 * 3600

CONFIG = dsl.PipelineConfig(
    ttl_seconds_after_finished=7 * DAY,
    # Argo prefers these two settings, and Kubeflow sets them to an hour if a pipeline does not.
    ttl_seconds_after_success=7 * DAY,
    ttl_seconds_after_failure=7 * DAY,
    active_deadline_seconds=DAY // 4,
)


def signing(task: Task) -> Task:
    """Give a step the key that signs alarms, if the cluster has one."""
    kubernetes.use_secret_as_env(task, KEY_SECRET, {VARIABLE: VARIABLE}, optional=True)
    return task


def registering(task: Task) -> Task:
    """Give a step the key that signs entries of the ledger, if the cluster has one."""
    kubernetes.use_secret_as_volume(task, LEDGER_SECRET, LEDGER_KEY, optional=True)
    task.set_env_variable("OFFERS_KEY", f"{LEDGER_KEY}/key.pem")
    return task


def placed(task: Task, memory: str = "2Gi", minutes: int = 60) -> Task:
    """Give a step its place on a cluster.

    Parameters
    ----------
    memory : limit of memory, as Kubernetes writes it
    minutes : time after which the step is stopped
    """
    task.set_cpu_request("250m").set_cpu_limit("2").set_memory_request("512Mi").set_memory_limit(memory)
    # The cache recognises a step by its arguments, but the rows behind a source's name change from day to day.
    task.set_caching_options(enable_caching=False)
    # Retries are for lost pods.
    task.set_retry(2, backoff_duration="30s", backoff_factor=2)
    task.set_env_variable("OFFERS_PATIENCE", str(PATIENCE))
    kubernetes.set_timeout(task, minutes * 60)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    keys = {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    kubernetes.use_secret_as_env(task, STORE_SECRET, keys, optional=True)
    places = {name: name for name in ("OFFERS_S3_ENDPOINT", "OFFERS_LEDGER")}
    kubernetes.use_config_map_as_env(task, SETTINGS, places, optional=True)
    return task


def with_source_secrets(task: Task) -> Task:
    """Give the step that opens a source the secrets that its URI refers to; no other step gets them."""
    kubernetes.use_secret_as_volume(task, SOURCE_SECRET, SOURCE_SECRETS, optional=True)
    return task
