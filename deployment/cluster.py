"""The connection to a cluster."""

from kubernetes import client, config

from offers.errors import ServiceError


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
