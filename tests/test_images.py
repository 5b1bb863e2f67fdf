"""The images in a real engine: what is in them, a training run in them, and the two services that answer from them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from offers import bundle as bundles
from offers import contract as contracts
from offers.lineage import git_commit
from serving.question import example
from tests.runs import offers
from tests.warranties import WARRANTIES

pytestmark = [pytest.mark.slow, pytest.mark.container]

ROOT = Path(__file__).resolve().parents[1]
MOST_MEGABYTES = {"offers-serving": 700, "offers-pipeline-python": 1200}
DOCKERFILES = {"offers-serving": "serving/Dockerfile", "offers-pipeline-python": "components/Dockerfile"}
LOCKED_DOWN = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
TRAINING = """
import json, sys
from docker.types import Mount
from kfp import components, local

given = json.loads(sys.argv[1])
mounts = [Mount(path, path, type="bind", read_only=path not in given["written"]) for path in given["mounted"]]
runner = local.DockerRunner(
    user=given["user"], read_only=True, tmpfs={"/tmp": "mode=1777"}, network_mode="none", cap_drop=["ALL"],
    security_opt=["no-new-privileges"], mounts=mounts,
)
local.init(runner, pipeline_root=given["root"])
components.load_component_from_file(given["package"])(**given["arguments"])
"""


def docker(*arguments: object, **options: Any) -> str:
    done = subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"docker {' '.join(map(str, arguments))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Names with tags of the images of this tree: those of OFFERS_IMAGE_TAG, or else built now."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no container engine answers 'docker info': the images are NOT tested; start one to test them")
    if tag := os.environ.get("OFFERS_IMAGE_TAG"):
        return {name: f"{name}:{tag}" for name in DOCKERFILES}
    index = ["--build-arg", "PIP_INDEX_URL"] if "PIP_INDEX_URL" in os.environ else []
    for name, file in DOCKERFILES.items():
        tag, commit = f"{name}:{git_commit()}", f"GIT_COMMIT={git_commit()}"
        docker("build", "--quiet", "--file", ROOT / file, "--build-arg", commit, *index, "--tag", tag, ROOT)
    return {name: f"{name}:{git_commit()}" for name in DOCKERFILES}


@pytest.fixture(params=sorted(DOCKERFILES))
def image(images: dict[str, str], request: pytest.FixtureRequest) -> str:
    return images[request.param]


def described(image: str) -> dict[str, Any]:
    return json.loads(docker("image", "inspect", image))[0]


def test_the_size_is_within_its_limit(image: str) -> None:
    assert described(image)["Size"] <= MOST_MEGABYTES[image.partition(":")[0]] * 1e6


def test_the_image_tells_where_it_comes_from_and_nothing_of_how_it_was_built(image: str) -> None:
    config = described(image)["Config"]
    assert config["Labels"]["org.opencontainers.image.revision"] == image.partition(":")[2]
    assert f"OFFERS_GIT_COMMIT={image.partition(':')[2]}" in config["Env"]
    user, group = config["User"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    told = json.dumps(config) + docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert "PIP_INDEX_URL" not in told


def test_no_tool_of_the_build_is_left(image: str) -> None:
    search = """
for tool in cc gcc g++ make pip pip3 uv git curl; do command -v $tool; done
find / -xdev -perm /6000 -type f 2>/dev/null
find /root /var/cache /var/lib/apt/lists -type f -path '*cache*' 2>/dev/null
python -c 'import importlib.util; print("pip" if importlib.util.find_spec("pip") else "", end="")'
"""
    assert docker("run", "--rm", *LOCKED_DOWN, "--network=none", image, "sh", "-c", search) == ""


@pytest.fixture(scope="module")
def source() -> str:
    if path := os.environ.get("OFFERS_DATA_DIR"):
        return str(Path(path, "bank-additional-full.csv").resolve())
    return "simulated"


def test_training_in_containers_gives_the_bundle_of_a_local_run(
    images: dict[str, str], source: str, tmp_path: Path
) -> None:
    pytest.importorskip("docker", reason="kfp's DockerRunner needs the package 'docker'")
    package, root, stored = tmp_path / "training.yaml", tmp_path / "root", tmp_path / "stored"
    for directory in (root, stored):
        directory.mkdir()
        directory.chmod(0o777)
    compiling = os.environ | {"OFFERS_PIPELINE_IMAGE": images["offers-pipeline-python"]}
    cli = Path(sys.executable).parent / "offers"
    subprocess.run([cli, "pipeline", "compile", package], env=compiling, check=True, capture_output=True)
    given = {
        "user": f"{os.getuid()}:{os.getgid()}" if os.getuid() else "10001:10001",
        "package": str(package),
        "root": str(root),
        "mounted": [str(stored), *([source] if Path(source).is_absolute() else [])],
        "written": [str(stored)],
        "arguments": {"contract": "bank-marketing", "source": source, "publish": str(stored)},
    }
    ran = subprocess.run(
        [sys.executable, "-c", TRAINING, json.dumps(given)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    here = tmp_path / "here"
    here.mkdir()
    done = offers(here, "pipeline", "run", "--source", source)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in stored.iterdir()] == [path.name for path in (here / "bundles").iterdir()]


@dataclass(frozen=True)
class Container:
    """A service in a container, and what it said when it began to answer."""

    name: str
    process: subprocess.Popen[str]
    bound: dict[str, Any]

    def url(self, port: int) -> str:
        return "http://" + docker("port", self.name, port).splitlines()[0]


@contextmanager
def container(name: str, image: str, options: list[object], command: list[str]) -> Iterator[Container]:
    """Run a service until its test is over; SIGTERM has to end it with exit code 0."""
    call = ["docker", "run", "--rm", "--name", name, *LOCKED_DOWN, *map(str, options), image, *command]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Container(name, process, json.loads(line))
        docker("kill", "--signal=TERM", name)
        assert process.wait(60) == 0
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
        process.communicate()


def arguments(file: str, *path: Any) -> list[str]:
    """Command and arguments of a container, as the manifests give them to the cluster."""
    found = yaml.safe_load((ROOT / "manifests" / "base" / file).read_text("utf-8"))
    for key in path:
        found = found[key]
    return [*found["command"], *(argument.replace("{{.Name}}", "offers") for argument in found["args"])]


@pytest.fixture(scope="module")
def pod(
    images: dict[str, str], shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Container, Container]]:
    """Predictor and ranker as in a pod: one network, one volume with the bundle, and the manifests' arguments."""
    catalogue = tmp_path_factory.mktemp("catalogue") / "warranties.yaml"
    catalogue.write_text(WARRANTIES)
    image, models = images["offers-serving"], f"--volume={shop_bundle}:/mnt/models:ro"
    name = f"offers-test-{os.getpid()}"
    command = arguments("serving-runtime.yaml", "spec", "containers", 0)
    published = ["--publish=127.0.0.1::8080", "--publish=127.0.0.1::8085"]
    with container(name, image, [models, *published], command) as predictor:
        theirs = arguments("inference-service.yaml", "spec", "predictor", "containers", 0)
        mine = [argument for argument in theirs if not argument.startswith(("--drift_url", "--scored_dir"))]
        options = [models, f"--network=container:{name}", f"--volume={catalogue}:/etc/warranties.yaml:ro"]
        with container(f"{name}-ranker", image, options, [*mine, "--catalogue=/etc/warranties.yaml"]) as ranker:
            yield predictor, ranker


def test_the_pair_answers_a_customer(pod: tuple[Container, Container], shop_bundle: Path) -> None:
    predictor, _ = pod
    question = example(contracts.parse((shop_bundle / "contract.yaml").read_text("utf-8")))
    answer = httpx.post(f"{predictor.url(8080)}/v1/models/offers:predict", json=question, timeout=30)
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    assert prediction["versions"]["model"] == shop_bundle.name
    assert not prediction["fallback"]
    assert [offer["rank"] for offer in prediction["offers"]] == list(range(1, len(prediction["offers"]) + 1))
    assert prediction["offers"]


def test_the_predictor_reproduces_the_golden_rows(pod: tuple[Container, Container], shop_bundle: Path) -> None:
    predictor, _ = pod
    content = json.loads((shop_bundle / "golden.json").read_text("utf-8"))
    answer = httpx.post(
        f"{predictor.url(8085)}/v1/models/offers:predict", json={"instances": content["rows"]}, timeout=30
    )
    assert answer.json()["predictions"] == pytest.approx(content["propensity"], abs=1e-6)
    assert predictor.bound["models"] == {"offers": bundles.load(shop_bundle).name}


def test_both_run_as_nobody_in_particular(pod: tuple[Container, Container]) -> None:
    for one in pod:
        assert docker("exec", one.name, "id", "-u").strip() == "10001"
        refused = subprocess.run(["docker", "exec", one.name, "touch", "/opt/x"], capture_output=True, check=False)
        assert refused.returncode != 0


def test_the_health_check_of_the_image_tells_the_truth(
    pod: tuple[Container, Container], images: dict[str, str]
) -> None:
    check = described(images["offers-serving"])["Config"]["Healthcheck"]["Test"][1:]
    docker("exec", pod[0].name, *check)
    alone = subprocess.run(
        ["docker", "run", "--rm", *LOCKED_DOWN, images["offers-serving"], *check], capture_output=True, check=False
    )
    assert alone.returncode != 0
