"""manifests/cluster.sh, from an empty machine to a ranked answer, with stand-ins for docker, kind and the cluster."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from offers.bundle.provenance import git_commit
from pipelines.placement import STORE_SECRET
from tests.support.cluster_double import OURS, SERVED, ClusterDouble
from tests.support.cluster_objects import PLATFORM, Object, deployment, named

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"offers-serving:abc", "offers-pipeline-python:abc", "offers-drift:abc"}
CHANGING = ("docker build", "kind create", "kind load", "kind delete", " apply ", " exec ", " delete ", " patch ")
pytestmark = pytest.mark.skipif(
    not (shutil.which("kubectl") and shutil.which("curl")),
    reason="kubectl or curl is not here: the cluster's commands are NOT tested; install kubectl 1.31 or newer",
)


def planted(tree: Path) -> Path:
    """A copy of what the commands read, with ports that are free."""
    shutil.copytree(ROOT / "manifests", tree / "manifests")
    own = tree / ".venv" / "bin" / "offers"
    own.parent.mkdir(parents=True)
    # What reaches the ledger is a stand-in; what judges the cluster is real.
    command = f"{sys.prefix}/bin/offers"
    own.write_text(f'#!/bin/bash\ncase $1 in deploy | rollback) exec offers "$@" ;; esac\nexec {command} "$@"\n')
    own.chmod(0o755)
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text("utf-8"))
    for mapping in config["nodes"][0]["extraPortMappings"]:
        mapping["hostPort"] = free_port()
    (tree / "kind-config.yaml").write_text(yaml.safe_dump(config))
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return planted(tmp_path / "tree")


@pytest.fixture
def machine(tmp_path: Path, tree: Path) -> Iterator[ClusterDouble]:
    with ClusterDouble(tmp_path) as machine:
        yield machine


def prepared(machine: ClusterDouble) -> ClusterDouble:
    """A kind cluster with the platform, and the images of this commit."""
    machine.make()
    machine.install(*PLATFORM)
    machine.images = set(IMAGES)
    return machine


@pytest.fixture
def ready(machine: ClusterDouble) -> ClusterDouble:
    return prepared(machine)


@dataclass(frozen=True)
class Deployed:
    """A first deployment, and what it has left."""

    tree: Path
    machine: ClusterDouble
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    directory = tmp_path_factory.mktemp("deployed")
    tree = planted(directory / "tree")
    with ClusterDouble(directory) as machine:
        prepared(machine)
        machine.published = {"30080": machine.address, "30030": "127.0.0.1:3000", "30088": "127.0.0.1:8888"}
        yield Deployed(tree, machine, run(tree, machine, "deploy"))


@pytest.fixture
def served(ready: ClusterDouble) -> ClusterDouble:
    """All of it, and a bundle that is served."""
    ready.deploy()
    ready.champion = SERVED
    ready.serve(SERVED)
    return ready


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def run(tree: Path, machine: ClusterDouble, command: str, **env: str) -> subprocess.CompletedProcess[str]:
    script = tree / "manifests" / "cluster.sh"
    return subprocess.run(
        [script, command], env=machine.env | env, capture_output=True, text=True, check=False, timeout=120
    )


def steps(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith("== ")]


def changes(machine: ClusterDouble) -> list[str]:
    return [call for call in machine.calls if any(part in call for part in CHANGING)]


def refused(done: subprocess.CompletedProcess[str], machine: ClusterDouble) -> list[str]:
    """The sentences of a command that has touched nothing."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert changes(machine) == []
    *sentences, last = done.stderr.splitlines()
    assert last == "Nothing was touched."
    assert all(sentence.startswith("offers: ") for sentence in sentences)
    return sentences


def test_all_that_is_missing_is_told_at_once(tree: Path, machine: ClusterDouble) -> None:
    for program in ("docker", "kind", "kubectl", "git"):
        (machine.bin / program).unlink()
    sentences = refused(run(tree, machine, "up"), machine)
    assert [sentence.split()[1] for sentence in sentences] == ["docker", "kind", "kubectl", "git"]
    assert all("is not installed" in sentence for sentence in sentences)


@pytest.mark.parametrize("said", ["v1.30.9", "v0.99.0"])
def test_a_kubectl_that_is_too_old(tree: Path, machine: ClusterDouble, said: str) -> None:
    machine.make()
    told = {"clientVersion": {"major": "1", "minor": "30+", "gitVersion": said, "goVersion": "go1.22.12"}}
    machine.fails["version --client"] = (0, json.dumps(told, indent=2), "")
    (sentence,) = refused(run(tree, machine, "platform"), machine)
    assert f"kubectl 1.31 or newer is needed, and {said.rpartition('.')[0]} is installed" in sentence


def test_a_kubectl_that_tells_no_version(tree: Path, machine: ClusterDouble) -> None:
    machine.make()
    machine.fails["version --client"] = (1, "", "error: unknown flag: --client\n")
    (sentence,) = refused(run(tree, machine, "platform"), machine)
    assert "kubectl 1.31 or newer is needed, and the one that is installed tells no version" in sentence


@pytest.mark.parametrize("command", ["up", "deploy"])
def test_a_kind_that_is_too_old(tree: Path, ready: ClusterDouble, command: str) -> None:
    ready.fails["kind version"] = (0, "kind v0.29.0 go1.24.2 linux/amd64\n", "")
    (sentence,) = refused(run(tree, ready, command), ready)
    assert "kind 0.30 or newer is needed, and v0.29 is installed" in sentence


@pytest.mark.parametrize("engine", ["", "0 0  "])
def test_an_engine_that_does_not_answer(tree: Path, machine: ClusterDouble, engine: str) -> None:
    """The client ends with 0 and zeros in place of figures where it is given a format."""
    machine.engine = engine
    (sentence,) = refused(run(tree, machine, "up"), machine)
    assert "does not answer 'docker info'" in sentence


def test_too_few_cpus_too_little_memory_and_disk(tree: Path, machine: ClusterDouble) -> None:
    machine.engine = f"{4 * 2**30} 2 x86_64 /var/lib/docker"
    (machine.bin / "df").unlink()
    (machine.bin / "df").write_text(
        "#!/bin/sh\necho 'Filesystem 1024-blocks Used Available Capacity Mounted on'\n"
        "echo '/dev/sda1 102400000 97157120 5242880 95% /'\n"
    )
    (machine.bin / "df").chmod(0o755)
    cpus, memory, disk = refused(run(tree, machine, "up"), machine)
    assert "has 2 CPUs, and Kubeflow Pipelines beside Offers needs 4" in cpus
    assert "4096 MiB of memory" in memory
    assert "has 5 GiB free, and images need 30" in disk


def test_a_machine_of_8_gib_is_enough(tree: Path, machine: ClusterDouble) -> None:
    """Its kernel keeps a part of that for itself."""
    machine.engine = f"{7800 * 2**20} 4 x86_64 /"
    machine.fails["kind create"] = (1, "", "ERROR: failed to create cluster\n")
    assert steps(run(tree, machine, "up")) == ["== cluster offers"]


def test_a_machine_that_kubeflow_has_no_images_for(tree: Path, machine: ClusterDouble) -> None:
    machine.engine = "16777216000 8 aarch64 /nowhere"
    (sentence,) = refused(run(tree, machine, "up"), machine)
    assert "docker runs on aarch64, and Kubeflow Pipelines has all of its images for x86_64 alone" in sentence


def test_a_limit_that_two_nodes_would_meet(tree: Path, machine: ClusterDouble) -> None:
    machine.watchers = "128"
    (sentence,) = refused(run(tree, machine, "up"), machine)
    assert "a user may have 128 inotify instances, and the pods of two nodes need 512: sudo sysctl fs." in sentence


def test_a_machine_without_that_limit(tree: Path, machine: ClusterDouble) -> None:
    machine.watchers = ""
    machine.fails["kind create"] = (1, "", "ERROR: failed to create cluster\n")
    assert steps(run(tree, machine, "up")) == ["== cluster offers"]


def test_a_port_that_is_taken(tree: Path, machine: ClusterDouble) -> None:
    config = yaml.safe_load((tree / "kind-config.yaml").read_text("utf-8"))
    port = config["nodes"][0]["extraPortMappings"][2]["hostPort"]
    with socket.create_server(("127.0.0.1", port)):
        (sentence,) = refused(run(tree, machine, "up"), machine)
        assert f"port {port} of 127.0.0.1 is taken: stop what listens there, or copy kind-config.yaml to" in sentence
        mine = (tree / "kind-config.yaml").read_text("utf-8").replace(str(port), str(free_port()))
        (tree / "kind-config.local.yaml").write_text(mine, "utf-8")
        machine.fails["kind create"] = (1, "", "ERROR: failed to create cluster\n")
        assert steps(run(tree, machine, "up")) == ["== cluster offers"]
    assert any("--config kind-config.local.yaml" in call for call in machine.calls)


@pytest.mark.parametrize("command", ["platform", "deploy", "status"])
def test_a_cluster_that_does_not_answer(tree: Path, machine: ClusterDouble, command: str) -> None:
    sentence, *_ = refused(run(tree, machine, command), machine)
    assert "as context kind-offers (error: context \"kind-offers\" does not exist): 'make up' makes one" in sentence


def test_a_kind_cluster_that_has_stopped_is_not_built_on(tree: Path, machine: ClusterDouble) -> None:
    machine.clusters = ["offers"]
    (sentence,) = refused(run(tree, machine, "up"), machine)
    assert "no cluster answers as context kind-offers" in sentence
    assert "kind's cluster offers has stopped, or kubectl does not know it: 'docker start' its nodes" in sentence


def test_deploy_asks_for_the_platform_and_the_images(tree: Path, machine: ClusterDouble) -> None:
    machine.make()
    machine.images = {"offers-serving:abc", "offers-drift:older"}
    kserve, pipelines, images = refused(run(tree, machine, "deploy"), machine)
    assert "no KServe: 'make platform' installs it" in kserve
    assert "no Kubeflow Pipelines: 'make platform' installs them" in pipelines
    assert "no image of tag abc for offers-pipeline-python offers-drift: 'make images' builds them" in images


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_cluster_of_another_make_is_neither_made_nor_deleted(
    tree: Path, machine: ClusterDouble, command: str
) -> None:
    machine.context("bank")
    (sentence,) = refused(run(tree, machine, command, OFFERS_CONTEXT="bank"), machine)
    assert "OFFERS_CONTEXT names bank" in sentence


def test_commands_that_do_not_exist_are_explained(tree: Path, machine: ClusterDouble) -> None:
    done = run(tree, machine, "bundle")
    assert done.returncode == 2
    assert "manifests/cluster.sh deploy" in done.stderr
    assert machine.calls == []


@pytest.mark.slow
def test_from_nothing_to_a_ranked_answer(tree: Path, machine: ClusterDouble) -> None:
    done = run(tree, machine, "up")
    assert done.returncode == 0, done.stderr
    assert steps(done) == [
        "== cluster offers",
        "== image offers-serving:abc",
        "== image offers-pipeline-python:abc",
        "== image offers-drift:abc",
        "== load the images of tag abc",
        "== cert-manager",
        "== KServe",
        "== Kubeflow Pipelines, some minutes",
        "== credentials of the object store",
        "== manifests of overlays/kind",
        "== bucket",
        "== trigger, Prometheus, Alertmanager and Grafana",
    ]
    assert "'make deploy' trains and serves the first" in done.stdout
    piped = [yaml.safe_load(one) for one in machine.applied if "kind: Secret" in one]
    secrets = {secret["metadata"]["name"]: secret for secret in piped}
    for secret in (secrets[name] for name in (STORE_SECRET, "object-store")):
        assert secret["data"] == {"AWS_ACCESS_KEY_ID": "bWluaW8=", "AWS_SECRET_ACCESS_KEY": "bWluaW8xMjM="}
    assert secrets[STORE_SECRET]["metadata"]["namespace"] == "kubeflow"
    assert (
        secrets["object-store"]["metadata"]["annotations"]["serving.kserve.io/s3-endpoint"] == "seaweedfs.kubeflow:9000"
    )
    assert len(bytes.fromhex(base64.b64decode(secrets["pseudonym-key"]["data"]["key"]).decode())) == 32

    machine.published = {"30080": machine.address, "30030": "127.0.0.1:3000", "30088": "127.0.0.1:8888"}
    done = run(tree, machine, "deploy")
    assert done.returncode == 0, done.stderr
    *_, curl = done.stdout.splitlines()
    assert curl == f"curl -s http://{machine.address}/v1/models/offers:predict -d @build/request.json"
    answer = subprocess.run(curl.split(), capture_output=True, text=True, check=True, cwd=tree)
    assert json.loads(answer.stdout)["predictions"][0]["customer_id"] == "example-1"

    machine.calls.clear()
    done = run(tree, machine, "up")
    assert done.returncode == 0, done.stderr
    assert steps(done)[0] == "== cluster offers is there"
    assert not [call for call in machine.calls if "kind create" in call or "docker build" in call]
    assert machine.clusters == ["offers"]


def test_urls_are_told_when_the_ranking_api_has_answered(deployed: Deployed) -> None:
    done, machine = deployed.done, deployed.machine
    assert done.returncode == 0, done.stderr
    assert machine.objects["workflows"][0]["status"]["phase"] == "Succeeded"
    assert machine.asked == [{"instances": [{"customer_id": "example-1"}]}]
    page = "http://127.0.0.1:8888"
    assert f"== training run first-abc-1, some minutes: {page}/#/runs/details/run-first-abc-1" in done.stdout
    forward = "kubectl --context kind-offers -n offers port-forward service/prometheus 9090:9090"
    assert done.stdout.splitlines()[-7:] == [
        "",
        f"Kubeflow Pipelines  {page}",
        "Grafana             http://127.0.0.1:3000",
        f"Prometheus          http://127.0.0.1:9090  after: {forward}",
        f"ranking API         http://{machine.address}",
        "",
        f"curl -s http://{machine.address}/v1/models/offers:predict -d @build/request.json",
    ]


@pytest.mark.slow
def test_a_cluster_without_our_ports_is_asked_from_inside(tree: Path, ready: ClusterDouble) -> None:
    """One that was there before has not the mappings of kind-config.yaml."""
    done = run(tree, ready, "deploy")
    assert done.returncode == 0, done.stderr
    assert ready.asked == [{"instances": [{"customer_id": "example-1"}]}]
    forward = "kubectl --context kind-offers -n offers port-forward service/ranker-node-port 8080:80"
    assert f"ranking API         http://127.0.0.1:8080  after: {forward}" in done.stdout


def test_another_kind_cluster_is_used_and_its_own_name_is_loaded(tree: Path, machine: ClusterDouble) -> None:
    machine.make("mine")
    machine.fails["kind load"] = (1, "", "ERROR: enough for this test\n")
    run(tree, machine, "up", OFFERS_CLUSTER="mine")
    assert machine.clusters == ["mine"]
    assert f"kind load docker-image --name mine {' '.join(sorted(IMAGES, key=machine.calls[-1].find))}" in machine.calls


@pytest.mark.slow
def test_a_cluster_that_kind_does_not_manage_loads_no_images(tree: Path, machine: ClusterDouble) -> None:
    machine.context("bank")
    machine.install(*PLATFORM)
    machine.deploy()
    machine.champion = SERVED
    machine.serve(SERVED)
    (machine.bin / "kind").unlink()
    (machine.bin / "docker").unlink()
    done = run(tree, machine, "deploy", OFFERS_CONTEXT="bank")
    assert done.returncode == 0, done.stderr
    assert "kind does not manage bank" in steps(done)[0]


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True])
def test_a_cluster_whose_store_holds_a_champion_serves_it_without_training(
    tree: Path, served: ClusterDouble, lost: bool
) -> None:
    """With the namespace the service is gone, and not the ledger."""
    if lost:
        served.objects["inferenceservices"] = []
    done = run(tree, served, "deploy")
    assert done.returncode == 0, done.stderr
    assert served.runs == []
    assert f"InferenceService offers/offers serves {SERVED}" in done.stdout
    (service,) = served.objects["inferenceservices"]
    assert service["spec"]["predictor"]["model"]["storageUri"] == SERVED


@pytest.mark.slow
def test_a_bundle_that_is_not_taken_up_says_why(tree: Path, served: ClusterDouble) -> None:
    failure = f"InferenceService offers/offers can't take up its release: no objects under {SERVED}"
    served.fails["offers deploy"] = (2, "", f"offers: {failure}\n")
    served.objects["pods"] = [stuck("storage-initializer", "CrashLoopBackOff", TRACEBACK + MISSING)]
    done = run(tree, served, "deploy")
    assert done.returncode == 1
    assert failure in done.stderr
    assert f"bank-marketing-release-1 can't be served: there is no release at {SERVED}" in done.stderr
    assert 'stopped at the step "serve what the ledger says"' in done.stderr
    assert "curl -s" not in done.stdout


@pytest.mark.slow
def test_a_bucket_that_can_not_be_made_says_why(tree: Path, ready: ClusterDouble) -> None:
    ready.fails["--for=condition=Complete"] = (1, "", "error: timed out waiting for the condition on jobs/bucket\n")
    ready.fails["logs job/bucket"] = (0, "", "offers: s3://offers: the access key is unknown\n")
    done = run(tree, ready, "deploy")
    assert done.returncode == 1
    assert "offers: s3://offers: the access key is unknown" in done.stderr
    assert 'stopped at the step "bucket"' in done.stderr


@pytest.mark.slow
def test_the_run_of_an_interrupted_deploy_is_waited_for(tree: Path, ready: ClusterDouble) -> None:
    ready.deploy()
    ready.programs("kubectl", "exec", "deployment/retraining-trigger", "--", "submit", "--name", "first-abc-1", "")
    assert run(tree, ready, "deploy").returncode == 0
    assert ready.runs == ["first-abc-1"]


def step(name: str, phase: str, minute: int = 0) -> Object:
    """A pod of the first run."""
    spec, status = {"containers": [{"name": "main"}]}, {"phase": phase}
    pod = named(name, "kubeflow", spec=spec, status=status)
    pod["metadata"] |= {
        "labels": {"pipeline/runid": "run-first-abc-1"},
        "creationTimestamp": f"2026-01-01T00:{minute:02d}:00Z",
    }
    return pod


@pytest.mark.slow
def test_a_run_that_takes_its_time_tells_what_it_waits_for(tree: Path, ready: ClusterDouble) -> None:
    late = "error: timed out waiting for the condition on workflows/offers-training-x\n"
    ready.fails["--for=condition=Completed"] = (1, "", late)
    pod = step("offers-training-x-1", "Pending")
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    pod["status"]["conditions"] = [unschedulable | {"message": "0/2 nodes are available: 2 Insufficient cpu."}]
    ready.objects["pods"] = [pod]
    done = run(tree, ready, "deploy")
    assert done.returncode == 1
    waits = "offers-training-x-1 0/2 nodes are available: 2 Insufficient cpu."
    told = [line for line in done.stdout.splitlines() if line.startswith("   it runs for")]
    assert told[0] == f"   it runs for 5 minutes; waits: {waits}"
    assert told[-1] == f"   it runs for 360 minutes; waits: {waits}"
    assert 'stopped at the step "training run first-abc-1' in done.stderr


@pytest.mark.slow
def test_a_run_that_can_not_be_waited_for_is_told_at_once(tree: Path, ready: ClusterDouble) -> None:
    ready.fails["--for=condition=Completed"] = (1, "", "error: no matching resources found\n")
    done = run(tree, ready, "deploy")
    assert done.returncode == 1
    assert "error: no matching resources found" in done.stderr
    assert "it runs for" not in done.stdout


@pytest.mark.slow
def test_a_run_that_failed_is_told_and_the_next_deploy_begins_another(tree: Path, ready: ClusterDouble) -> None:
    ready.ends = "Failed"
    done = run(tree, ready, "deploy")
    assert done.returncode == 1
    assert "first-abc-1  failed  began" in done.stderr
    assert "  ingest: no source answers at https://archive.example" in done.stderr
    assert "OFFERS_SOURCE=simulated make deploy" in done.stderr
    # The address is one of the cluster.
    assert "ml-pipeline.kubeflow:8888" not in done.stderr
    assert 'stopped at the step "training run first-abc-1' in done.stderr
    assert "the same command goes on from there" in done.stderr
    assert "curl -s" not in done.stdout
    assert ready.runs == ["first-abc-1"]
    ready.ends = "Succeeded"
    assert run(tree, ready, "deploy", OFFERS_SOURCE="simulated").returncode == 0
    assert ready.runs == ["first-abc-1", "first-abc-2"]
    assert any("first-abc-2 --source simulated" in call for call in ready.calls)


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "code", "runs"), [(1, 0, 2), (2, 0, 3), (3, 1, 3)])
def test_a_run_that_kubeflow_lost_is_begun_again_twice(
    tree: Path, ready: ClusterDouble, lost: int, code: int, runs: int
) -> None:
    ready.lost = lost
    done = run(tree, ready, "deploy")
    assert done.returncode == code, done.stderr
    assert ready.runs == [f"first-abc-{number}" for number in range(1, runs + 1)]
    assert done.stderr.count("Kubeflow lost it: its own task train-driver failed") == lost
    pauses = [call for call in ready.calls if call.startswith("sleep")]
    assert pauses == ["sleep 30", "sleep 60"][: runs - 1]


@pytest.mark.slow
def test_a_model_that_the_gate_refused_is_told(tree: Path, ready: ClusterDouble) -> None:
    ready.passed = False
    done = run(tree, ready, "deploy")
    assert done.returncode == 1
    assert "  gate: failed: auc at least 0.99" in done.stderr
    assert "the gate refused the model, so nothing is served" in done.stderr


@pytest.mark.slow
def test_the_source_of_the_first_training_is_the_triggers_too_and_stays(tree: Path, ready: ClusterDouble) -> None:
    def variable() -> str:
        command = ["kubectl", "kustomize", tree / "build/deploy"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (trigger,) = (
            one
            for one in yaml.safe_load_all(text)
            if one["kind"] == "Deployment" and one["metadata"]["name"] == "retraining-trigger"
        )
        (container,) = trigger["spec"]["template"]["spec"]["containers"]
        ready.put("deployments", trigger | deployment("offers", "retraining-trigger") | {"spec": trigger["spec"]})
        (value,) = (one["value"] for one in container["env"] if one["name"] == "OFFERS_SOURCE")
        return str(value)

    source = "postgresql://me@db/bank?options='a: b'"
    assert run(tree, ready, "deploy", OFFERS_SOURCE=source).returncode == 0
    assert variable() == source
    assert any(f"--source {source} --approval gate --publish" in call for call in ready.calls)
    assert run(tree, ready, "deploy").returncode == 0
    assert variable() == source
    assert run(tree, ready, "deploy", OFFERS_SOURCE="").returncode == 0
    assert variable() == ""


@pytest.mark.slow
def test_a_step_that_fails_is_named(tree: Path, machine: ClusterDouble) -> None:
    machine.make()
    machine.fails["manifests/platform/kserve"] = (1, "", "error: Apply failed with 1 conflict\n")
    done = run(tree, machine, "platform")
    assert done.returncode == 1
    assert steps(done) == ["== cert-manager", "== KServe"]
    assert "Apply failed with 1 conflict" in done.stderr
    assert 'stopped at the step "KServe"' in done.stderr
    machine.fails.clear()
    assert run(tree, machine, "platform").returncode == 0


@pytest.mark.slow
def test_a_platform_that_does_not_start_shows_its_pods(tree: Path, machine: ClusterDouble) -> None:
    machine.make()
    late = "error: timed out waiting for the condition on deployments/cert-manager\n"
    machine.fails["wait -n cert-manager"] = (1, "", late)
    pod = named("cert-manager-7d", "cert-manager", spec={"containers": [{"name": "main"}]}, status={"phase": "Pending"})
    machine.objects["pods"] = [pod]
    done = run(tree, machine, "platform")
    assert done.returncode == 1
    assert late in done.stderr
    assert "cert-manager-7d" in done.stderr


def test_kserve_is_asked_for_its_own_kinds_when_it_knows_them(tree: Path, machine: ClusterDouble) -> None:
    machine.make()
    machine.fails["manifests/platform/pipelines-crds"] = (1, "", "error: enough for this test\n")
    done = run(tree, machine, "platform")
    assert 'stopped at the step "Kubeflow Pipelines, some minutes"' in done.stderr
    said = [call for call in machine.calls if " apply " in call or " wait " in call]
    first = next(place for place, call in enumerate(said) if call.endswith("manifests/platform/kserve"))
    assert [" ".join(call.split()[3:]) for call in said[first:-1]] == [
        "apply --server-side -k manifests/platform/kserve",
        "wait --for=condition=Established --timeout=2m crd/clusterstoragecontainers.serving.kserve.io",
        "wait -n kserve --for=condition=Available --timeout=20m deployment --all",
        "apply --server-side -k manifests/platform/kserve-storage",
    ]


def test_down_deletes_the_cluster_that_is_named(tree: Path, machine: ClusterDouble) -> None:
    machine.make("mine")
    machine.make("offers")
    assert run(tree, machine, "down", OFFERS_CLUSTER="mine").returncode == 0
    assert machine.clusters == ["offers"]


def test_the_ledger_begins_with_an_admin_and_keys_of_trigger_and_pipelines(deployed: Deployed) -> None:
    machine, kept = deployed.machine, deployed.tree / "build" / "ledger-keys"
    assert machine.added == {"trigger": ("operator",), "pipeline": ("trainer", "operator")}
    secrets = [yaml.safe_load(one) for one in machine.applied if "name: ledger-key" in one]
    told = {one["metadata"]["namespace"]: base64.b64decode(one["data"]["key.pem"]).decode() for one in secrets}
    assert told == {"offers": "the key of trigger", "kubeflow": "the key of pipeline"}
    # What is secret stays with the admin, and leaves the pod.
    assert [path.name for path in kept.iterdir()] == ["admin.pem"]
    assert kept.stat().st_mode & 0o77 == (kept / "admin.pem").stat().st_mode & 0o77 == 0
    assert machine.scratch == {}


def test_a_deploy_that_stopped_between_key_and_secret_goes_on(tree: Path, ready: ClusterDouble) -> None:
    ready.fails["create secret generic ledger-key"] = (1, "", "the cluster does not answer\n")
    done = run(tree, ready, "deploy")
    assert done.returncode != 0
    assert "== key of trigger in the ledger" in done.stdout
    del ready.fails["create secret generic ledger-key"]
    assert run(tree, ready, "deploy").returncode == 0
    assert ready.added == {"trigger": ("operator",), "pipeline": ("trainer", "operator")}


def test_a_key_that_was_lost_with_its_namespace_is_replaced(tree: Path, served: ClusterDouble) -> None:
    served.added = {"trigger": ("operator",), "pipeline": ("trainer", "operator")}
    served.put("secrets", named("ledger-key", "kubeflow"), named("lost", "offers"))
    done = run(tree, served, "deploy")
    assert done.returncode == 0, done.stderr
    assert served.added == {"pipeline": ("trainer", "operator"), "trigger": ("operator",)}
    secrets = [yaml.safe_load(one) for one in served.applied if "name: ledger-key" in one]
    assert [one["metadata"]["namespace"] for one in secrets] == ["offers"]


def test_the_first_training_and_the_trigger_deploy_alike(deployed: Deployed) -> None:
    (submit,) = (call for call in deployed.machine.calls if "pipeline submit" in call)
    manifests = yaml.safe_load_all((ROOT / "manifests/base/retraining.yaml").read_text("utf-8"))
    (trigger,) = (one for one in manifests if one["kind"] == "Deployment")
    arguments = trigger["spec"]["template"]["spec"]["containers"][0]["args"]
    for name in ("--publish", "--service", "--smoke-url"):
        (theirs,) = (one for one in arguments if one.startswith(name))
        assert theirs.replace("=", " ") in submit


def test_the_overlay_that_is_applied_has_the_images_of_the_commit(deployed: Deployed) -> None:
    command = ["kubectl", "kustomize", deployed.tree / "build/deploy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for image in IMAGES:
        assert f"image: {image}" in done.stdout
    assert "value: offers-pipeline-python:abc" in done.stdout


def test_images_carry_the_commit_as_the_bundles_tell_it(machine: ClusterDouble) -> None:
    env = os.environ | {"PATH": machine.env["PATH"]}
    done = subprocess.run([ROOT / "manifests/cluster.sh", "images"], env=env, capture_output=True, check=False)
    assert done.returncode == 0
    asked = {call.rpartition(":")[2] for call in machine.calls if "image inspect" in call or "docker build" in call}
    assert {one.removesuffix(" .") for one in asked} == {git_commit.__wrapped__()}


def test_images_are_built_as_kind_can_load_them(tree: Path, machine: ClusterDouble) -> None:
    assert run(tree, machine, "images").returncode == 0
    assert machine.images == IMAGES
    assert machine.attested == set()


def test_images_that_are_there_are_not_built_again_unless_their_tag_is_vague(
    tree: Path, machine: ClusterDouble
) -> None:
    machine.images = set(IMAGES)
    done = run(tree, machine, "images")
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"{image}  684MB" for image in sorted(IMAGES)])
    assert changes(machine) == []
    run(tree, machine, "images", OFFERS_GIT_COMMIT="abc-dirty")
    run(tree, machine, "images", OFFERS_GIT_COMMIT="abc-dirty")
    assert len(changes(machine)) == 6


def test_all_is_well(tree: Path, served: ClusterDouble) -> None:
    done = run(tree, served, "status")
    assert done.returncode == 0, done.stderr
    number = sum(map(len, PLATFORM.values()))
    assert done.stdout.splitlines() == [
        "nodes     2 ready",
        f"platform  {number} deployments available",
        "service   1 of 1 pods answer",
        "release   bank-marketing-release-1 is served",
        "trigger   available",
    ]


def test_an_empty_cluster_says_what_comes_first(tree: Path, machine: ClusterDouble) -> None:
    machine.make()
    done = run(tree, machine, "status")
    assert done.returncode == 2
    assert "platform  not installed: cert-manager kserve kubeflow\n          -> 'make platform'" in done.stdout
    assert "service   there is no InferenceService offers/offers\n          -> 'make deploy'" in done.stdout


def test_what_does_not_run_is_named(tree: Path, served: ClusterDouble) -> None:
    served.objects["nodes"][1]["status"]["conditions"][0]["status"] = "Unknown"
    for namespace, name in (("kubeflow", "mysql"), ("offers", "retraining-trigger")):
        served.put("deployments", deployment(namespace, name, available=0))
    done = run(tree, served, "status")
    assert done.returncode == 2
    assert "nodes     of 2 not ready: offers-worker" in done.stdout
    assert "not available: kubeflow/mysql" in done.stdout
    assert "trigger   not available" in done.stdout
    assert done.stdout.count("->") == 3


def test_a_service_before_its_first_bundle(tree: Path, ready: ClusterDouble) -> None:
    ready.deploy()
    done = run(tree, ready, "status")
    assert done.returncode == 2
    assert "release   none\n          -> 'make deploy' trains one and deploys it" in done.stdout


TRACEBACK = (
    'Traceback (most recent call last):\n  File "/storage-initializer/scripts/initializer-entrypoint", line 44\n'
)


def stuck(container: str, reason: str, last: str = "", message: str = "") -> Object:
    """A pod of the service as the API tells it while one of its containers does not start."""
    state: Object = {"waiting": {"reason": reason, "message": message}}
    ended = {"terminated": {"exitCode": 1, "reason": "Error", **({"message": last} if last else {})}}
    broken = {"name": container, "ready": False, "restartCount": 4, "state": state, "lastState": ended}
    waits = {"name": "drift", "ready": False, "restartCount": 0, "lastState": {}}
    waits["state"] = {"waiting": {"reason": "PodInitializing"}}
    init = container == "storage-initializer"
    status = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "initContainerStatuses": [broken] if init else [],
        "containerStatuses": [waits] if init else [waits, broken],
    }
    spec = {"containers": [{"name": one["name"]} for one in status["containerStatuses"]]}
    pod = named("offers-predictor-7d", "offers", spec=spec, status=status)
    pod["metadata"]["labels"] = {"serving.kserve.io/inferenceservice": "offers"}
    pod["metadata"]["annotations"] = {"internal.serving.kserve.io/storage-initializer-sourceuri": SERVED}
    return pod


MISSING = 'RuntimeError: Failed to fetch model. No model found in "bundles/bank-marketing-1".'


def test_what_keeps_a_bundle_from_being_served_is_read_from_the_log_where_its_status_is_silent(
    tree: Path, served: ClusterDouble
) -> None:
    served.logs["offers-predictor-7d"] = "offers: bundle bank-marketing-1: booster.ubj has changed\n"
    served.objects["pods"] = [stuck("kserve-container", "CrashLoopBackOff", message="back-off 40s restarting")]
    done = run(tree, served, "status")
    assert done.returncode == 2
    assert "service   no pod answers" in done.stdout
    reason = "kserve-container ends with exit code 1: bundle bank-marketing-1: booster.ubj has changed"
    assert f"release   bank-marketing-release-1 can't be served: {reason}\n" in done.stdout


def test_without_our_own_command_nothing_is_judged(tree: Path, served: ClusterDouble) -> None:
    (tree / ".venv" / "bin" / "offers").unlink()
    (sentence,) = refused(run(tree, served, "status"), served)
    assert ".venv/bin/offers is not there: 'make setup' installs it" in sentence


def test_a_first_release_has_none_to_return_to(tree: Path, served: ClusterDouble) -> None:
    done = run(tree, served, "rollback")
    assert done.returncode == 2
    assert "there is no former champion to return to" in done.stderr


def test_the_scripts_know_the_names_of_the_manifests() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", ROOT / "manifests/overlays/kind"], capture_output=True, text=True, check=True
    )
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    found = {one["metadata"]["name"] for one in objects if one["kind"] == "Deployment"}
    assert found == set(OURS)
    ports = {
        port["nodePort"]
        for one in objects
        if one["spec" if "spec" in one else "metadata"].get("type") == "NodePort"
        for port in one["spec"]["ports"]
    }
    assert ports >= {30080, 30030, 30088}
