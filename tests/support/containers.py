"""Images of this tree, and its services in containers, locked down as the manifests lock them down in a pod."""

import json
import os
import secrets
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from offers.bundle.provenance import git_commit

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = {
    "offers-serving": "serving/Dockerfile",
    "offers-pipeline-python": "components/Dockerfile",
    "offers-drift": "serving/drift/Dockerfile",
    "offers-recommender": "serving/recommender/Dockerfile",
    "offers-app": "serving/app/Dockerfile",
    "offers-ui": "serving/ui/Dockerfile",
}
MOST_MEGABYTES = {
    "offers-serving": 700,
    "offers-pipeline-python": 1200,
    "offers-drift": 1300,
    "offers-recommender": 1060,
    "offers-app": 1300,
    "offers-ui": 900,
}
LOCKED_DOWN = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
RUNTIME, SERVICE = "serving-runtime.yaml", "inference-service.yaml"
SINK_PORT = 9090
SINK = f"""
import http.server, signal, sys

class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_):
        pass

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
server = http.server.HTTPServer(("127.0.0.1", {SINK_PORT}), Sink)
print("{{}}", flush=True)
server.serve_forever()
"""
"""Takes alarms as the trigger does, and prints them."""


def docker(*arguments: object) -> str:
    done = subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(map(str, arguments))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def engine_answers() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def built() -> dict[str, str]:
    """Names with tags of the images: those of OFFERS_IMAGE_TAG, or else built now."""
    if tag := os.environ.get("OFFERS_IMAGE_TAG"):
        return {name: f"{name}:{tag}" for name in DOCKERFILES}
    commit = git_commit()
    more = ["--build-arg", "PIP_INDEX_URL"] if "PIP_INDEX_URL" in os.environ else []
    if base := os.environ.get("OFFERS_IMAGE_BASE"):
        more += ["--build-arg", f"BASE={base}"]

    def build(name: str) -> str:
        tag, label = f"{name}:{commit}", f"GIT_COMMIT={commit}"
        docker("build", "--quiet", "--file", ROOT / DOCKERFILES[name], "--build-arg", label, *more, "--tag", tag, ROOT)
        return tag

    with ThreadPoolExecutor(2) as threads:
        return dict(zip(DOCKERFILES, threads.map(build, DOCKERFILES), strict=True))


def described(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    return found


@dataclass(frozen=True)
class Container:
    """A service in a container, and what it said when it began to answer."""

    name: str
    process: subprocess.Popen[str]
    bound: dict[str, Any]

    def said(self) -> str:
        """The next line that it prints; waits for it."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@contextmanager
def container(name: str, image: str, options: list[str], command: list[str]) -> Iterator[Container]:
    """Run a service until its test is over; SIGTERM has to end it with exit code 0."""
    call = ["docker", "run", "--rm", "--name", name, *LOCKED_DOWN, *options, image, *command]
    # A file, because nobody reads a pipe before the end, and a full one would hold the service up.
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, _whole(log)
            yield Container(name, process, json.loads(line))
            docker("kill", "--signal=TERM", name)
            assert process.wait(60) == 0, _whole(log)
        finally:
            subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
            process.communicate()


def _whole(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


@dataclass(frozen=True)
class Pod:
    """The containers of an InferenceService's pod, in one network and with one volume, and a sink beside them."""

    predictor: Container
    ranker: Container
    drift: Container
    shipper: Container
    sink: Container
    tables: Path

    def url(self, port: int) -> str:
        return "http://" + docker("port", self.predictor.name, port).splitlines()[0]


@contextmanager
def pod(images: dict[str, str], release: Path, directory: Path) -> Iterator[Pod]:
    """Run the pod with the arguments and the limits that the manifests give it; alarms go to the sink.

    The spool, the pseudonyms' key and the tables are in the directory.
    """
    for part in ("spool", "tables", "key"):
        (directory / part).mkdir()
        (directory / part).chmod(0o777)
    (directory / "key" / "key").write_text(secrets.token_hex(32))
    spool = f"--volume={directory / 'spool'}:/var/spool/offers"
    name, serving = f"offers-test-{uuid.uuid4().hex[:8]}", images["offers-serving"]
    shared, models = f"--network=container:{name}", f"--volume={release}:/mnt/models:ro"
    spec = _manifest(SERVICE)["spec"]["predictor"]
    given = {one["name"]: one for one in spec["containers"]}
    [served] = _manifest(RUNTIME)["spec"]["containers"]
    ranking = [one for one in _command(given["transformer-container"]) if not one.startswith("--routing=")]
    shipping = [one for one in _command(given["shipper"]) if not one.startswith("--tables=")]
    watching = [one for one in _command(given["drift"]) if not one.startswith("--sink=")]
    ports = [f"--publish=127.0.0.1::{port}" for port in (8080, 8085, 8090)]
    with (
        container(name, serving, [models, *_limits(spec["model"]), *ports], _command(served)) as predictor,
        container(f"{name}-sink", serving, [shared], ["python", "-c", SINK]) as sink,
        container(
            f"{name}-drift", images["offers-drift"],
            [models, shared, "--tmpfs=/var/lib/drift:uid=10001,gid=10001", *_limits(given["drift"])],
            [*watching, f"--sink=http://127.0.0.1:{SINK_PORT}/"],
        ) as drift,
        container(
            f"{name}-shipper", images["offers-pipeline-python"],
            [shared, spool, f"--volume={directory / 'tables'}:/var/tables", *_limits(given["shipper"])],
            [*shipping, "--tables=/var/tables"],
        ) as shipper,
        container(
            f"{name}-ranker", serving,
            [models, shared, spool, f"--volume={directory / 'key'}:/var/run/pseudonyms:ro",
             *_limits(given["transformer-container"])],
            ranking,
        ) as ranker,
    ):  # fmt: skip
        yield Pod(predictor, ranker, drift, shipper, sink, directory / "tables")


def _manifest(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "manifests" / "base" / file).read_text("utf-8"))
    return found


def _command(given: dict[str, Any]) -> list[str]:
    return [*given["command"], *(argument.replace("{{.Name}}", "offers") for argument in given["args"])]


def _limits(given: dict[str, Any]) -> list[str]:
    limits = given["resources"]["limits"]
    cpu = str(limits["cpu"])
    cores = float(cpu.removesuffix("m")) / 1000 if cpu.endswith("m") else float(cpu)
    return [f"--memory={limits['memory'].removesuffix('i').lower()}", f"--cpus={cores:g}"]
