"""The Kubernetes API: of the cluster that this process runs in, or of the one that kubectl talks to."""

from kubernetes import client, config

from offers.errors import ServiceError


def connect(context: str = "") -> client.ApiClient:
    """The cluster that this process runs in, or else one of kubectl's.

    Parameters
    ----------
    context : of kubectl; its present one where this is empty, and the process does not run in a cluster

    Raises
    ------
    ServiceError
        there is none
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
    """Name of kubectl's present context; empty where there is none."""
    try:
        return str(config.list_kube_config_contexts()[1]["name"])
    except (config.ConfigException, OSError, TypeError, KeyError):
        return ""
