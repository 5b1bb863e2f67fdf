"""The object store of the platform on loopback: SeaweedFS, with the arguments of Kubeflow Pipelines and ours."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import SecretStr

from offers.settings import S3Settings
from tests.e2e.awaiting import await_that
from tests.e2e.forward import free_port

OURS = Path(__file__).resolve().parents[2] / "manifests" / "platform" / "pipelines" / "kustomization.yaml"
KUBEFLOWS = ("-s3", "-iam", "-filer", "-master.volumePreallocate=false")
IMAGES = ("-master.volumeSizeLimitMB=1024",)
PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port", "s3.port.grpc", "s3.port.iceberg", "iam.port",
)  # fmt: skip
KEY, SECRET = "minio", "minio123"


def ours() -> str:
    """What our manifests add."""
    patches = yaml.safe_load(OURS.read_text("utf-8"))["patches"]
    (patch,) = (patch for patch in patches if patch.get("target", {}).get("name") == "seaweedfs")
    (operation,) = yaml.safe_load(patch["patch"])
    return str(operation["value"])


@contextmanager
def seaweedfs(directory: Path, *arguments: str, identities: Sequence[dict[str, Any]] = ()) -> Iterator[S3Settings]:
    """A server with its data below `directory`, for `identities` too; gives what the store's owner signs with."""
    owner = {"name": "owner", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (directory / "identities.json").write_text(json.dumps({"identities": [owner, *identities]}))
    ports = {name: free_port() for name in PORTS}
    listening = [f"-{name}={port}" for name, port in ports.items()]
    command = [
        str(Path(sys.executable).parent / "weed"), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-dir={directory}", f"-s3.config={directory / 'identities.json'}", *listening, *KUBEFLOWS, *IMAGES, *arguments,
    ]  # fmt: skip
    endpoint, log = f"127.0.0.1:{ports['s3.port']}", directory / "weed.log"
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said, cwd=directory) as process:
        try:
            await_that("SeaweedFS", lambda: _ready(endpoint), 60, str(log))
            yield S3Settings(endpoint=endpoint, access_key=KEY, secret_key=SecretStr(SECRET), region="", secure=False)
        finally:
            # It would wait for clients and write what nobody will read.
            process.kill()
            for port in ports.values():
                for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    socket.unlink()


def _ready(endpoint: str) -> tuple[bool | None, str]:
    try:
        status = httpx.get(f"http://{endpoint}/status", timeout=5, trust_env=False).status_code
    except httpx.HTTPError as error:
        return None, str(error)
    return (True if status == 200 else None), f"it answers {status}"
