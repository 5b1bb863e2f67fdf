"""Connects to the Kubernetes API of the cluster that this process runs in, or of the one that kubectl uses."""

from kubernetes import client, config

from offers.errors import ServiceError


def connect(context: str = "") -> client.ApiClient:
    """Connect to the cluster that this process runs in, or else to one of kubectl's.

    Parameters
    ----------
    context : kubectl's context; if empty, the cluster that the process runs in, or else kubectl's current context

    Raises
    ------
    ServiceError
        there is no such cluster
    """
    if not context:
        try:
            config.load_incluster_config()
        except config.ConfigException:
            pass
        else:
            return client.ApiClient()
    try:
        return config.new_client_from_config(context=context or None)
    except (config.ConfigException, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ServiceError(f"no cluster is configured: {reason}; 'kubectl config get-contexts' lists them") from None


def current_context() -> str:
    """Name kubectl's current context; empty where there is none."""
    try:
        return str(config.list_kube_config_contexts()[1]["name"])
    except (config.ConfigException, OSError, TypeError, KeyError):
        return ""
