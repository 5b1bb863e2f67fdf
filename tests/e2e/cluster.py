"""The cluster that kubectl talks to, and what our commands need to know of it."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import urllib3
from kubernetes import client

from deployment.cluster import connect
from deployment.inference_service import InferenceService
from offers.errors import ServiceError
from offers.governance.access import member_key, open_ledger
from offers.governance.ledger import Ledger
from offers.governance.release import OpenRelease, fetch
from offers.retraining.journal import Journal
from offers.settings import Settings
from offers.store.store import Store, open_store
from pipelines.kubeflow import Kubeflow
from tests.e2e.forward import forwarded

T = TypeVar("T")

NAMESPACE, NAME = "offers", "offers"
BUCKET, BUNDLES = "s3://offers", "s3://offers/bundles"
CONTRACT = "bank-marketing"
"""The one that the trigger of the manifests is for."""
INSTALL = "'make up' and 'make deploy' install what is needed"


@dataclass(frozen=True)
class Cluster:
    """Its API, and the settings by which our commands on this machine reach it.

    `home` is a directory for what they leave; `namespace` is where the service runs.
    """

    api: client.ApiClient
    env: Mapping[str, str]
    home: Path
    namespace: str = NAMESPACE

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.env)

    @property
    def kubeflow(self) -> Kubeflow:
        return Kubeflow(self.settings.kubeflow)

    @property
    def service(self) -> InferenceService:
        return InferenceService(self.api, self.namespace, NAME)

    @property
    def bundles(self) -> Store:
        return open_store(BUNDLES, self.settings)

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.settings.model_copy(update={"ledger": BUCKET}))

    @property
    def journal(self) -> Journal:
        return Journal(self.ledger, lambda: member_key(self.settings), CONTRACT)

    def release(self, uri: str) -> OpenRelease:
        """The release at a service's URI."""
        return fetch(open_store(BUCKET, self.settings), uri.rpartition("/")[2], self.home)

    @contextmanager
    def pod(self, *ports: int) -> Iterator[list[str]]:
        """URLs that lead to ports of one serving pod."""
        with forwarded(self.namespace, f"deployment/{NAME}-predictor", *ports, log=self.home / "serving.log") as urls:
            yield urls

    def offers(self, *arguments: object, seconds: float) -> str:
        """Call the installed command as a user would; gives what it says."""
        command = [str(Path(sys.executable).parent / "offers"), *map(str, arguments)]
        shown = " ".join(["offers", *command[1:]])
        try:
            done = subprocess.run(
                command, env=os.environ | self.env, cwd=self.home, capture_output=True, text=True, timeout=seconds,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            pytest.fail(f"waited {seconds:g} seconds for {shown!r}; look at: what runs in the cluster", pytrace=False)
        if done.returncode:
            pytest.fail(f"{shown!r} ended with {done.returncode}: {done.stdout}{done.stderr}", pytrace=False)
        return done.stdout


def answering() -> client.ApiClient:
    """The cluster of the kubeconfig.

    Raises
    ------
    ServiceError
        there is none, it does not answer, or kubectl is missing
    """
    api = connect()
    try:
        client.VersionApi(api).get_code(_request_timeout=5)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ServiceError(f"the cluster at {api.configuration.host} does not answer: {str(error)[:200]}") from None
    except client.ApiException:
        # It does answer; what it refuses is told by the step that needs it.
        pass
    if not shutil.which("kubectl"):
        raise ServiceError("kubectl is not installed, and leads the way to its services")
    return api


@contextmanager
def connected(api: client.ApiClient, home: Path) -> Iterator[Cluster]:
    """Ways to Kubeflow and to the object store, and the settings for both."""
    env = {"OFFERS_HOME": str(home), "OFFERS_PIPELINE_IMAGE": image(api), "OFFERS_LEDGER": BUCKET} | keys(api)
    # The admin's, as `make deploy` has left it.
    env |= {"OFFERS_KEY": str(Path("build/ledger-keys/admin.pem").resolve())}
    # The store's region in manifests/base; and a token of whoever calls belongs to other keys.
    env |= {"AWS_REGION": "us-east-1", "AWS_SESSION_TOKEN": ""}
    with ExitStack() as open_ways:
        for name, target, port in (
            ("OFFERS_KUBEFLOW_URL", "service/ml-pipeline", 8888),
            ("OFFERS_S3_ENDPOINT", "service/seaweedfs", 9000),
        ):
            way = forwarded("kubeflow", target, port, log=home / f"{target.rpartition('/')[2]}.log")
            (env[name],) = open_ways.enter_context(way)
        yield Cluster(api, env, home)


def keys(api: client.ApiClient) -> dict[str, str]:
    """Keys of the object store, as our pods have them."""
    name, secrets = "object-store", client.CoreV1Api(api)
    found = _read(f"Secret {NAMESPACE}/{name}", lambda: secrets.read_namespaced_secret(name, NAMESPACE))
    names = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
    return {name: base64.b64decode(found.data[name]).decode() for name in names}


def image(api: client.ApiClient) -> str:
    """The image of the pipelines' steps that the cluster has: the one that the trigger runs in."""
    name = "retraining-trigger"
    deployments = client.AppsV1Api(api)
    found = _read(f"Deployment {NAMESPACE}/{name}", lambda: deployments.read_namespaced_deployment(name, NAMESPACE))
    return str(found.spec.template.spec.containers[0].image)


def _read(what: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except client.ApiException as error:
        pytest.fail(f"{what}: the cluster answers {error.status}, {error.reason}; {INSTALL}", pytrace=False)
