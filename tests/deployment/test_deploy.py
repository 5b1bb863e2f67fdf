"""`offers deploy` as a process, against a cluster whose pods are real predictors, and a bucket with a ledger."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployment import rollout
from offers.governance import release as releases
from serving.ranker.routing_source import RoutingObject
from tests.support.cluster_ledger import ClusterLedger
from tests.support.kubernetes_double import PREDICTOR_SPEC, KubernetesDouble
from tests.support.runs import ShopRun, other_bundle
from tests.support.s3_double import S3Double

pytestmark = pytest.mark.slow


class Kubelet:
    """Runs the predictor of the release that the service names, as a pod does, and says when it is ready."""

    def __init__(self, bank: ClusterLedger, logs: Path) -> None:
        self.bank, self.logs = bank, logs
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.uri, self.problem, self.pod = "", "", ExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serving(self) -> str:
        """The bundle that answers."""
        return str(httpx.get(f"{self.url}/v2/models/offers", trust_env=False).json()["versions"][0])

    def __call__(self, service: dict[str, Any]) -> None:
        uri = rollout.present(service).uri
        if uri != self.uri:
            self.pod.close()
            self.uri, self.problem = uri, self._start(uri.rpartition("/")[2])
        ready = {"type": "Ready", "status": "False" if self.problem else "True", "message": self.problem}
        service["status"] = {"observedGeneration": service["metadata"]["generation"], "conditions": [ready]}

    def _start(self, release: str) -> str:
        directory = releases.local(self.bank.store, release, self.logs)
        command = [sys.executable, "-m", "serving.predictor", "--bundle", str(directory / "bundle")]
        with (self.logs / "predictor.log").open("w") as errors:
            process = subprocess.Popen(
                [*command, "--http_port", str(self.port), "--grpc_port", "0"],
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        self.pod.callback(process.communicate)
        self.pod.callback(process.kill)
        assert process.stdout is not None
        return "" if process.stdout.readline() else (self.logs / "predictor.log").read_text()


@pytest.fixture
def bank(s3: S3Double, tmp_path: Path) -> ClusterLedger:
    return ClusterLedger(s3, "bank", tmp_path)


@pytest.fixture
def kubelet(bank: ClusterLedger, tmp_path: Path) -> Iterator[Kubelet]:
    (logs := tmp_path / "node").mkdir()
    node = Kubelet(bank, logs)
    with node.pod:
        yield node


@pytest.fixture
def cluster(kubelet: Kubelet) -> Iterator[KubernetesDouble]:
    with KubernetesDouble(kubelet) as double:
        double.add("offers", {"predictor": dict(PREDICTOR_SPEC)})
        yield double


def offers(
    cluster: KubernetesDouble, bank: ClusterLedger, kubelet: Kubelet, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of a person whose kubectl is set up for the cluster."""
    named = {"clusters": ("cluster", {"server": cluster.url}), "users": ("user", {}), "contexts": ("context", {})}
    config = {kind: [{"name": "bank", noun: what}] for kind, (noun, what) in named.items()}
    config["contexts"][0]["context"] = {"cluster": "bank", "user": "bank"}
    (file := bank.directory / "kubeconfig").write_text(json.dumps(config | {"current-context": "bank"}))
    s3 = bank.settings.s3
    environment = os.environ | {
        "KUBECONFIG": str(file),
        "OFFERS_HOME": str(bank.settings.home),
        "OFFERS_LEDGER": bank.settings.ledger,
        "OFFERS_KEY": str(bank.settings.key),
        "OFFERS_S3_ENDPOINT": f"http://{s3.endpoint}",
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key.get_secret_value(),
        "NO_PROXY": "127.0.0.1",
    }
    where = ("--service", "bank/offers", "--smoke-url", kubelet.url, "--seconds", "20")
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments, *where], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def bundles(shop_run: ShopRun, tmp_path: Path) -> tuple[Path, Path]:
    return shop_run.bundle, other_bundle(shop_run, tmp_path / "other")


def test_what_the_ledger_says_is_what_the_pods_answer_with(
    cluster: KubernetesDouble, bank: ClusterLedger, kubelet: Kubelet, bundles: tuple[Path, Path]
) -> None:
    first, second = map(bank.release, bundles)
    for release, bundle in zip((first, second), bundles, strict=True):
        done = offers(cluster, bank, kubelet, "deploy", release)
        assert (done.returncode, done.stderr) == (0, "")
        assert kubelet.serving() == bundle.name
    assert bank.kinds(4) == ["promoting", "promoted"] * 2
    done = offers(cluster, bank, kubelet, "rollback", "--reason", "errors since noon")
    assert (done.returncode, done.stderr) == (0, "")
    assert kubelet.serving() == bundles[0].name
    assert bank.kinds(2) == ["promoting", "rolled back"]
    routing = RoutingObject(bank.store, "routing/offers.json", bank.directory / "ranker").read()
    assert routing is not None
    assert [arm.release for arm in routing.arms] == [first]
