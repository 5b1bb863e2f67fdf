"""The steps of the tests on a cluster, held against doubles of its APIs and against services on this machine."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client

from offers.bundle import bundle as loading
from offers.contract import contract as contracts
from offers.errors import ServiceError
from offers.governance.approval import begin, finish
from offers.governance.ledger import enrol
from offers.retraining.journal import Decision, Journal, Request
from offers.simulation.shifts import CovariateShift
from offers.simulation.world import World
from pipelines.kubeflow import Kubeflow
from serving.local import Services, SidecarOptions, services, sidecar_python
from tests.e2e import awaiting, forward, steps
from tests.e2e.awaiting import await_that
from tests.e2e.cluster import Cluster, connected, image, keys
from tests.e2e.conftest import asked_for
from tests.e2e.forward import forwarded
from tests.support.cluster_ledger import ClusterLedger
from tests.support.http_double import FileServer
from tests.support.kubeflow_double import API, KubeflowDouble
from tests.support.kubernetes_double import KubernetesDouble
from tests.support.ledgers import signer
from tests.support.reachable import in_cluster, pod, served
from tests.support.s3_double import S3Double
from tests.support.services import serving
from tests.support.small import SMALL
from tests.support.warranties import WARRANTIES

ROOT = Path(__file__).parents[2]
TESTS = 9
"""On a cluster."""
IMAGE = "offers-pipeline-python:4f2a"
OLD, NEW = "s3://offers/releases/shop-release-0000000000000001", "s3://offers/releases/shop-release-0000000000000002"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaiting, "PAUSE", 0.01)


def failing(what: str) -> Any:
    return pytest.raises(pytest.fail.Exception, match=what)


class Progress(KubeflowDouble):
    """Each look at a run finds it in its next state; a run that is told to stop is cancelled then."""

    def __init__(self, *states: str) -> None:
        super().__init__()
        self.states = list(states)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path.endswith(":terminate"):
            self.states = ["CANCELING", "CANCELED"]
            return 200, {}
        if method == "GET" and path.startswith(f"{API}/runs/") and self.states:
            self.runs[-1]["state"] = self.states.pop(0)
        return super().answer(method, path, query, body)


@pytest.fixture
def kubeflow() -> Iterator[Progress]:
    with Progress() as double:
        yield double


def run_of(double: Progress, name: str = "e2e-1", **more: Any) -> str:
    number = len(double.runs) + 1
    double.runs.append({"run_id": f"runs-{number}", "display_name": name, "state": "PENDING"} | more)
    return f"runs-{number}"


def ready(service: dict[str, Any], status: str = "True", message: str = "") -> None:
    service["status"] = {
        "observedGeneration": service["metadata"]["generation"],
        "conditions": [{"type": "Ready", "status": status, "message": message}],
    }


@pytest.fixture
def kubernetes() -> Iterator[KubernetesDouble]:
    with KubernetesDouble(ready) as double:
        double.add("offers", {"predictor": {"model": {"storageUri": OLD}}})
        yield double


def kubeconfig(path: Path, server: str) -> str:
    config = {
        "current-context": "double",
        "clusters": [{"name": "double", "cluster": {"server": server}}],
        "contexts": [{"name": "double", "context": {"cluster": "double", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
    }
    path.write_text(json.dumps(config))
    return str(path)


@pytest.fixture
def cluster(kubernetes: KubernetesDouble, kubeflow: Progress, s3: S3Double, tmp_path: Path) -> Cluster:
    s3.buckets["offers"] = {}
    env = {
        "KUBECONFIG": kubeconfig(tmp_path / "kubeconfig", kubernetes.url),
        "OFFERS_HOME": str(tmp_path),
        "OFFERS_KUBEFLOW_URL": kubeflow.url,
        "OFFERS_PIPELINE_IMAGE": IMAGE,
        "OFFERS_S3_ENDPOINT": f"http://{s3.address}",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "mine",
    }
    return Cluster(kubernetes.api(), env, tmp_path, "bank")


def test_what_comes_is_awaited() -> None:
    looks = iter([(None, "nobody"), (None, "a shadow"), ("Godot", "a man")])
    assert await_that("Godot", lambda: next(looks), 60, "the road") == "Godot"


def test_what_never_comes_is_told_with_what_was_seen_last() -> None:
    seen = iter(["a boy", "a tree", *["a tree with leaves"] * 10_000])
    with failing("^waited 0.1 seconds for Godot; last seen: a tree with leaves; look at: the road$"):
        await_that("Godot", lambda: (None, next(seen)), 0.1, "the road")


def test_there_is_one_look_at_least() -> None:
    with failing("last seen: nobody"):
        await_that("Godot", lambda: (None, "nobody"), 0, "the road")


def test_a_fault_of_the_cluster_is_seen_and_others_are_not_hidden() -> None:
    def away() -> tuple[None, str]:
        raise ServiceError("Kubeflow has gone away")

    with failing("last seen: Kubeflow has gone away; look at"):
        await_that("a run", away, 0.05, "the log")
    with pytest.raises(KeyError, match="state"):
        await_that("a run", lambda: {}["state"], 60, "the log")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("tests/e2e",), True),
        (("-x", "tests/e2e/test_loop.py::test_a_rollback_brings_the_bundle_before_back"), True),
        ((), False),
        (("tests",), False),
        (("-m", "e2e"), False),
        (("tests/manifests/test_e2e.py",), False),
    ],
)
def test_only_who_names_the_directory_changes_a_cluster(arguments: tuple[str, ...], asked: bool) -> None:
    assert asked_for(pytest.Config.InvocationParams(args=arguments, plugins=None, dir=ROOT)) is asked


def skipped(kubeconfig: str, path: Path, *arguments: str) -> str:
    """Why a run of the tests on a cluster skips all of them."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command, env={"KUBECONFIG": kubeconfig, "PATH": str(path)}, cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert (done.returncode, len(lines)) == (0, TESTS), done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{TESTS} skipped in")
    (reason,) = {line.partition(": ")[2] for line in lines}
    return reason


@pytest.mark.slow
def test_outside_a_cluster_all_is_skipped_and_says_why(kubernetes: KubernetesDouble, tmp_path: Path) -> None:
    there, nobody = kubeconfig(tmp_path / "there", kubernetes.url), kubeconfig(tmp_path / "no", "http://127.0.0.1:9")
    said = "the loop is NOT tested on a cluster"
    others = (f"--ignore={room}" for room in (ROOT / "tests").iterdir() if room.name != "e2e")
    ours = ("tests", *others, "-m", "e2e")
    assert skipped(there, tmp_path, *ours) == f"{said}, as that changes what it serves; 'make e2e' does it"
    assert kubernetes.requests == []
    assert skipped(there, tmp_path, "tests/e2e").startswith(f"{said}: kubectl is not installed")
    assert skipped(str(tmp_path / "absent"), tmp_path, "tests/e2e").startswith(f"{said}: no cluster is configured: ")
    assert skipped(nobody, tmp_path, "tests/e2e").startswith(
        f"{said}: the cluster at http://127.0.0.1:9 does not answer"
    )


def test_a_run_is_submitted_and_awaited(cluster: Cluster, kubeflow: Progress) -> None:
    run = steps.submit(cluster, 7)
    (sent,) = kubeflow.runs
    assert (sent["run_id"], sent["display_name"]) == (run, "e2e-7")
    parameters = sent["runtime_config"]["parameters"]
    assert contracts.parse(parameters["contract"]).approval.by == "gate"
    assert parameters | {"contract": "bank-marketing"} == {
        "contract": "bank-marketing",
        "source": "simulated",
        "seed": 7,
        "publish": "s3://offers/bundles",
        "service": "bank/offers",
        "smoke_url": "http://predictor.offers.svc:8085",
    }
    executors = sent["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {IMAGE}
    kubeflow.states = ["RUNNING", "RUNNING", "SUCCEEDED"]
    assert steps.await_run(cluster.kubeflow, run, 60).state == "succeeded"
    assert kubeflow.states == []


DETAILS = {
    "error": {"code": 13, "message": "train ran out of memory"},
    "run_details": {"task_details": [{"display_name": "train", "state": "FAILED"}]},
    "pipeline_spec": {
        "root": {"dag": {"tasks": {"train": {"componentRef": {"name": "comp-train"}}}}},
        "components": {"comp-train": {}},
    },
}


def test_a_run_that_fails_is_told_step_by_step(kubeflow: Progress) -> None:
    run = run_of(kubeflow, **DETAILS)
    kubeflow.states = ["RUNNING", "FAILED"]
    told = r"expected succeeded, got failed \(train ran out of memory\), steps: train failed; look at: .*pipeline logs"
    with failing(f"run {run}: {told} {run}$"):
        steps.await_run(Kubeflow(kubeflow.url), run, 60)


def test_a_run_that_never_ends_is_given_up(kubeflow: Progress) -> None:
    run = run_of(kubeflow, state="RUNNING")
    with failing(f"waited 0.1 seconds for the end of run {run}; last seen: running, steps: none yet; look at: http"):
        steps.await_run(Kubeflow(kubeflow.url), run, 0.1)


def test_a_submission_that_is_refused_says_so(cluster: Cluster, kubeflow: Progress) -> None:
    kubeflow.refuse[f"POST {API}/runs"] = 403
    with failing("'offers pipeline submit .*' ended with 2: offers: .*answers 403: refused with 403"):
        steps.submit(cluster, 7)


def test_a_command_that_hangs_is_given_up(cluster: Cluster) -> None:
    with failing("waited 0.01 seconds for 'offers pipeline status'"):
        cluster.offers("pipeline", "status", seconds=0.01)


def test_a_new_bundle_is_found_when_it_is_whole(cluster: Cluster, s3: S3Double) -> None:
    objects = s3.buckets["offers"]
    objects |= {"bundles/a/manifest.json": b"{}", "bundles/half/model.ubj": b"", "journal/x.jsonl": b""}
    before = steps.bundles(cluster.bundles)
    assert before == {"a"}
    with failing("for a new bundle in s3://offers/bundles; last seen: 1 bundles, all from before"):
        steps.await_bundle(cluster.bundles, before, 0.05)
    objects["bundles/half/manifest.json"] = b"{}"
    assert steps.await_bundle(cluster.bundles, before, 60) == "half"


def test_a_service_is_awaited_until_it_is_ready_with_its_bundle(cluster: Cluster, kubernetes: KubernetesDouble) -> None:
    steps.await_served(cluster.service, OLD, 60)
    with failing(f"bank/offers to be ready with {NEW}; last seen: storageUri {OLD}, ready; look at: kubectl -n bank"):
        steps.await_served(cluster.service, NEW, 0.05)
    kubernetes.add("offers", {"predictor": {"model": {"storageUri": NEW}}})
    kubernetes.change("offers", lambda service: ready(service, "False", "0 of 2 pods are up"))
    with failing(f"last seen: storageUri {NEW}, not ready: 0 of 2 pods are up; look at"):
        steps.await_served(cluster.service, NEW, 0.05)
    kubernetes.change("offers", ready)
    steps.await_served(cluster.service, NEW, 60)
    kubernetes.change("offers", lambda service: service.pop("status"))
    with failing("not ready: it has no such condition yet; look at"):
        steps.await_served(cluster.service, NEW, 0.05)


def test_a_cluster_that_goes_away_is_what_was_seen_last(cluster: Cluster) -> None:
    cluster.api.configuration.host = "http://127.0.0.1:9"
    with failing("last seen: can't read InferenceService bank/offers: the cluster does not answer"):
        steps.await_served(cluster.service, OLD, 0.05)


def test_a_retraining_run_is_one_of_the_trigger_s_that_was_not_there(cluster: Cluster, kubeflow: Progress) -> None:
    old = run_of(kubeflow, "retrain-bank-marketing-1")
    run_of(kubeflow, "by-hand")
    with failing(
        "a retraining run in Kubeflow; last seen: new runs: by-hand; the trigger's last decision: none; look at"
    ):
        steps.await_retraining(cluster, {old}, 0.05)
    request = Request(id="a1", contract="bank-marketing", cause="alarm")
    reason = "retrain-bank-marketing-1 is under way"
    ledger = cluster.journal.ledger
    enrol(ledger, signer("trainer"), ("admin", "trainer"))
    journal = Journal(ledger, lambda: signer("trainer"), "bank-marketing")
    journal.decide(request, lambda history: Decision(at=journal.clock(), request=request, started=False, reason=reason))
    with failing(
        f"the trigger's last decision: {reason}; look at: kubectl -n offers logs deployment/retraining-trigger"
    ):
        steps.await_retraining(cluster, {old}, 0.05)
    new = run_of(kubeflow, "retrain-bank-marketing-2")
    assert steps.await_retraining(cluster, {old}, 60).id == new


def test_a_run_is_stopped(kubeflow: Progress) -> None:
    run_of(kubeflow, "retrain-bank-marketing-2", state="RUNNING")
    client = Kubeflow(kubeflow.url)
    (run,) = client.runs()
    assert steps.stop(client, run, 60).state == "stopped"


def test_what_the_cluster_keeps_is_read_and_missed(kubernetes: KubernetesDouble) -> None:
    with failing("Secret offers/object-store: the cluster answers 404, .*'make up' and 'make deploy'"):
        keys(kubernetes.api())
    with failing("Deployment offers/retraining-trigger: the cluster answers 404, "):
        image(kubernetes.api())
    with platform(kubernetes) as api:
        assert keys(api) == {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine"}
        assert image(api) == IMAGE


@contextmanager
def platform(kubernetes: KubernetesDouble) -> Iterator[client.ApiClient]:
    """An API that answers everything with an object which is the store's Secret and the trigger's Deployment."""
    template = {"metadata": {}, "spec": {"containers": [{"name": "trigger", "image": IMAGE}]}}
    keys = {"AWS_ACCESS_KEY_ID": b"me", "AWS_SECRET_ACCESS_KEY": b"mine"}
    content = {
        "data": {name: base64.b64encode(value).decode() for name, value in keys.items()},
        "spec": {"selector": {}, "template": template},
    }
    api = kubernetes.api()
    with FileServer(content=json.dumps(content).encode()) as server:
        api.configuration.host = server.url.removesuffix("/small.csv")
        yield api


KUBECTL = f"""\
#!{sys.executable}
import json, os, pathlib, socket, sys, threading

def lead(one, other):
    while content := one.recv(65536):
        other.sendall(content)
    other.shutdown(socket.SHUT_WR)

def serve(listening, port):
    while True:
        caller, pod = listening.accept()[0], socket.create_connection(("127.0.0.1", port))
        ways = [threading.Thread(target=lead, args=way) for way in ((caller, pod), (pod, caller))]
        for way in ways:
            way.start()
        if ends:
            for way in ways:
                way.join()
            os._exit(1)

print(*sys.argv[1:7], file=sys.stderr, flush=True)
ends, ports = json.loads(pathlib.Path(__file__).with_name("pods.json").read_text())
for pair in sys.argv[7:]:
    here, there = pair.split(":")
    listening = socket.create_server(("127.0.0.1", int(here)))
    threading.Thread(target=serve, args=(listening, ports[there])).start()
"""
"""Leads to `ports` of this machine in the place of a pod's; where it `ends`, after one connection, as pods do."""


@pytest.fixture
def lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a kubectl on the path that leads to ports of this machine."""

    def lead(ports: dict[int, str], ends: bool = False) -> None:
        found = {str(there): int(url.rpartition(":")[2].partition("/")[0]) for there, url in ports.items()}
        (tmp_path / "pods.json").write_text(json.dumps([ends, found]))
        (tmp_path / "kubectl").write_text(KUBECTL)
        (tmp_path / "kubectl").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return lead


def test_a_way_to_a_pod_is_kept_open(server: FileServer, tmp_path: Path, lead: Callable[..., None]) -> None:
    def get(url: str) -> tuple[bytes | None, str]:
        try:
            return httpx.get(f"{url}/small.csv", trust_env=False).content, "an answer"
        except httpx.HTTPError as error:
            return None, str(error)

    lead({80: server.url}, ends=True)
    server.content, log = SMALL, tmp_path / "log"
    with forwarded("bank", "service/offers", 80, log=log) as (url,):
        for _ in range(3):
            assert await_that("an answer", lambda: get(url), 60, str(log)) == SMALL
    assert get(url)[0] is None
    assert log.read_text().count("--namespace bank port-forward --address 127.0.0.1 service/offers\n") >= 3


def test_ways_to_kubeflow_and_the_store_are_opened(
    kubernetes: KubernetesDouble, kubeflow: Progress, s3: S3Double, tmp_path: Path, lead: Callable[..., None]
) -> None:
    s3.buckets["offers"] = {"bundles/a/manifest.json": b"{}"}
    run_of(kubeflow)
    lead({8888: kubeflow.url, 9000: s3.address})
    with platform(kubernetes) as api, connected(api, tmp_path) as found:
        assert [run.name for run in found.kubeflow.runs()] == ["e2e-1"]
        assert steps.bundles(found.bundles) == {"a"}
        assert found.env["OFFERS_PIPELINE_IMAGE"] == IMAGE
    assert s3.requests[-1].headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=me/")


def test_a_way_that_never_opens_says_what_kubectl_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubectl").write_text("#!/bin/sh\necho no such service >&2\nexit 1\n")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(forward, "SECONDS", 0.1)
    told = "a way to service/offers in namespace bank; last seen: .*refused; look at: kubectl --namespace bank port-for"
    with failing(told), forwarded("bank", "service/offers", 80, log=tmp_path / "log"):
        pass
    assert "no such service" in (tmp_path / "log").read_text()


@pytest.fixture(scope="module")
def running(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Predictor, ranker and sidecar of the shop."""
    home = tmp_path_factory.mktemp("running")
    (home / "warranties.yaml").write_text(WARRANTIES)
    with services(
        shop_bundle, str(home / "warranties.yaml"), home / "logs", watch=SidecarOptions(sidecar_python())
    ) as found:
        yield found


@pytest.mark.slow
def test_an_answer_is_awaited_until_it_is_the_bundle_s(running: Services, shop_bundle: Path) -> None:
    contract = loading.load(shop_bundle).contract
    answer = steps.await_answer(running.ranker.url, contract, shop_bundle.name, 60)
    assert answer["versions"]["model"] == shop_bundle.name
    with failing(
        f"for an answer by shop-2; last seen: an answer by {shop_bundle.name}; look at: kubectl -n offers logs"
    ):
        steps.await_answer(running.ranker.url, contract, "shop-2", 0.05)
    with failing("last seen: no ranker answers at http://127.0.0.1:9"):
        steps.await_answer("http://127.0.0.1:9", contract, shop_bundle.name, 0.05)


@pytest.mark.slow
def test_changed_customers_raise_an_alarm_and_others_do_not(running: Services, shop_bundle: Path) -> None:
    contract = loading.load(shop_bundle).contract
    ranker, drift = running.ranker.url, running.drift
    assert drift is not None
    few = World(contract).sample(250).frame
    with failing(r"for an alarm after 250 changed customers; last seen: \d windows, signals .*; look at: kubectl"):
        steps.await_alarm(ranker, drift.url, contract, few, 1)
    changed = World(contract).sample(6000, regimes=[CovariateShift(0, "spending", 2.0)]).frame
    alarm = steps.await_alarm(ranker, drift.url, contract, changed, 120)
    assert alarm["bundle"] == shop_bundle.name
    assert (alarm["signals"]["data"], alarm["signals"]["score"]) == (True, True)


@pytest.fixture
def releases(s3: S3Double, shop_bundle: Path, tmp_path: Path) -> tuple[str, str]:
    """URIs of the champion and of the one before."""
    bank = ClusterLedger(s3, "offers", tmp_path)
    names = bank.release(shop_bundle), bank.release(shop_bundle, 31)
    for name in names:
        finish(bank.ledger, bank.keys["olga"], begin(bank.ledger, bank.keys["olga"], name))
    return bank.uri(names[1]), bank.uri(names[0])


@pytest.mark.slow
def test_a_rollback_returns_to_the_release_before(
    cluster: Cluster,
    kubernetes: KubernetesDouble,
    releases: tuple[str, str],
    shop_bundle: Path,
    s3: S3Double,
    tmp_path: Path,
) -> None:
    cluster = replace(cluster, env={**cluster.env, "OFFERS_KEY": str(tmp_path / "olga.pem")})
    now, before = releases
    kubernetes.add("offers", {"predictor": {"model": {"storageUri": now}}})
    in_cluster(kubernetes, s3, "offers")
    served(kubernetes, "bank", "predictor", 8085, pod("serving"))
    with serving("serving.predictor", tmp_path / "log", "--bundle", shop_bundle) as predictor:
        kubernetes.forwards["serving"] = "127.0.0.1", httpx.URL(predictor.url).port or 0
        steps.roll_back(cluster)
        steps.await_served(cluster.service, before, 60)
        with failing("'offers rollback .*' ended with 2: offers: contract shop: there is no former champion"):
            steps.roll_back(cluster)


@pytest.mark.slow
def test_a_served_bundle_is_one_that_answers(
    cluster: Cluster,
    kubernetes: KubernetesDouble,
    releases: tuple[str, str],
    running: Services,
    shop_bundle: Path,
    lead: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubernetes.add("offers", {"predictor": {"model": {"storageUri": releases[0]}}})
    monkeypatch.setattr(steps, "ANSWER", 30)
    lead({8080: running.ranker.url, 8085: running.predictor.url})
    steps.check_served(cluster, shop_bundle.name)
    assert "deployment/offers-predictor" in (cluster.home / "serving.log").read_text()
    with failing("bundle shop-none: the ledger knows no release of it"):
        steps.check_served(cluster, "shop-none")
