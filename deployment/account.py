"""Asks a cluster who calls it: the account that the ledger's entries name beside the key that signs them."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import urllib3

from offers.errors import ServiceError
from offers.governance.keys import Signer
from offers.settings import Settings

if TYPE_CHECKING:
    from kubernetes import client

_SECONDS = (5, 20)


def account_of(api: "client.ApiClient") -> str:
    """Ask the cluster for the name of the account that calls it, by a SelfSubjectReview.

    Raises
    ------
    ServiceError
        the cluster does not answer, does not know who asks, or does not say it
    """
    from kubernetes import client

    try:
        review = client.AuthenticationV1Api(api).create_self_subject_review(
            client.V1SelfSubjectReview(), _request_timeout=_SECONDS
        )
    except client.ApiException as error:
        hints = {
            401: "it does not know who asks (401); log in again",
            403: "the account may not ask that (403); the ClusterRole offers-self-review grants it",
            404: "it has no SelfSubjectReview (404), which Kubernetes has since 1.28",
        }
        hint = hints.get(error.status, f"it answers {error.status}: {error.reason}")
        raise ServiceError(f"can't ask the cluster whose account calls it: {hint}") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        reason = f"it does not answer: {str(error)[:200]}"
        raise ServiceError(f"can't ask the cluster whose account calls it: {reason}", passes=True) from None
    name = (review.status.user_info.username if review.status and review.status.user_info else "") or ""
    if not name:
        raise ServiceError("the cluster was asked whose account calls it, and names none")
    return str(name)


def as_account(signer: Signer, api: "client.ApiClient") -> Signer:
    """Let a signer's entries name the cluster's account, too; raises as `account_of` does."""
    return replace(signer, account=account_of(api))


def step_settings() -> Settings:
    """Read the settings of a pipeline's step; on a cluster they name the account that the step runs as.

    Raises
    ------
    ServiceError
        as `account_of` does
    """
    settings = Settings.from_env()
    # Kubernetes sets this in each pod. A step on a laptop does not load the client.
    if not (os.environ.get("KUBERNETES_SERVICE_HOST") and settings.key and settings.key.exists()):
        return settings
    from deployment.cluster import connect

    return settings.model_copy(update={"account": account_of(connect())})
