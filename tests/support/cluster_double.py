"""A cluster on loopback, and the programs that lead to it.

docker, kind and the half of kubectl that changes something are stand-ins, whose answers have the form of the real ones;
what kubectl reads, it reads itself, from a small Kubernetes API. kubectl and curl are real.
"""

import json
import shutil
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support import loopback
from tests.support.cluster_objects import (
    CRDS,
    KINDS,
    PLATFORM,
    Object,
    condition,
    deployment,
    discovery,
    missing,
    named,
    typed,
)
from tests.support.cluster_programs import Answer, Programs
from tests.support.loopback import Loopback

TOOLS = [
    "awk",
    "base64",
    "bash",
    "cat",
    "curl",
    "date",
    "df",
    "dirname",
    "env",
    "git",
    "grep",
    "mkdir",
    "od",
    "rm",
    "sed",
    "tail",
    "tr",
]
SERVED = "s3://offers/releases/bank-marketing-release-1"
OURS = ("retraining-trigger", "prometheus", "alertmanager", "grafana")
PROGRAM = """#!{python} -IS
import http.client, json, os, sys
name, argv = os.path.basename(sys.argv[0]), sys.argv[1:]
piped = sys.stdin.read() if "-f" in argv and argv[argv.index("-f") + 1] == "-" or "-i" in argv else ""
double = http.client.HTTPConnection("127.0.0.1", {port})
double.request("POST", "/program", json.dumps([dict(os.environ), name, *argv, piped]))
code, out, err = json.loads(double.getresponse().read())
if code is None:
    read, write = os.pipe()
    os.write(write, piped.encode())
    os.close(write)
    os.dup2(read, 0)
    os.execv("{kubectl}", ["kubectl", *argv])
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


class ClusterDouble(Loopback):
    """What is on the machine and on the cluster; each field may be set before a command, and tells afterwards.

    `calls` are the programs that were called, with their arguments; `fails` maps a part of a call to an answer that it
    gets instead; `champion` is the URI of the release that the ledger names; `ends` is how a run of a pipeline ends,
    `reason` why it failed, `lost` how many runs Kubeflow loses, and `passed` whether its model passes the gate;
    `attested` are images that kind can't load, as they were built with attestations.
    """

    def __init__(self, directory: Path) -> None:
        self.calls: list[str] = []
        self.applied: list[str] = []
        self.fails: dict[str, Answer] = {}
        self.engine = "16777216000 8 x86_64 /nowhere"
        self.watchers = "1024"
        self.images: set[str] = set()
        self.attested: set[str] = set()
        self.environment: dict[str, str] = {}
        self.clusters: list[str] = []
        self.namespaces: set[str] = set()
        self.published: dict[str, str] = {}
        self.objects: dict[str, list[Object]] = {plural: [] for plural in KINDS}
        self.logs: dict[str, str] = {}
        self.runs: list[str] = []
        self.ends, self.passed = "Succeeded", True
        self.reason, self.lost = "ingest: no source answers at https://archive.example", 0
        self.asked: list[Object] = []
        self.scratch: dict[str, str] = {}
        self.added: dict[str, tuple[str, ...]] = {}
        self.champion = ""
        self.programs = Programs(self)
        super().__init__(_Handler.of(self), patient=False)
        self.bin, self._kubeconfig = directory / "bin", directory / "kubeconfig"
        self.env = {
            "PATH": str(self.bin),
            "HOME": str(directory),
            "KUBECONFIG": str(self._kubeconfig),
            "OFFERS_GIT_COMMIT": "abc",
        }
        self._install()

    def _install(self) -> None:
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        port, kubectl = self._server.server_port, shutil.which("kubectl")
        for program in ("docker", "kind", "kubectl", "offers", "sleep", "sysctl"):
            path = self.bin / program
            path.write_text(PROGRAM.format(python=sys.executable, port=port, kubectl=kubectl))
            path.chmod(0o755)

    def context(self, name: str) -> None:
        """Let kubectl know the cluster by this name."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": f"http://{self.address}"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "users": [{"name": name, "user": {}}],
        }
        self._kubeconfig.write_text(json.dumps(config))

    def make(self, name: str = "offers") -> None:
        """A kind cluster without a platform."""
        self.clusters.append(name)
        self.context(f"kind-{name}")
        roles = ("control-plane", "worker")
        self.objects["nodes"] = [named(f"{name}-{role}", status=condition("Ready")) for role in roles]

    def put(self, plural: str, *made: Object) -> None:
        """Make objects, in the place of those that have their names."""
        names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in made}
        kept = [
            one for one in self.objects[plural] if (one["metadata"]["namespace"], one["metadata"]["name"]) not in names
        ]
        self.objects[plural] = [*kept, *made]

    def install(self, *parts: str) -> None:
        """Parts of the platform, as they are when they have started."""
        for part in parts:
            self.put("deployments", *(deployment(part, name) for name in PLATFORM[part]))
            self.put(
                "customresourcedefinitions", *(named(name, status=condition("Established")) for name in CRDS[part])
            )
        keys = {"accesskey": "bWluaW8=", "secretkey": "bWluaW8xMjM="}
        self.put("secrets", named("mlpipeline-minio-artifact", "kubeflow", data=keys))
        webhooks = [{"clientConfig": {"caBundle": "LS0t"}}]
        self.put("validatingwebhookconfigurations", named("cert-manager-webhook", webhooks=webhooks))

    def deploy(self) -> None:
        """What overlays/kind makes; a service that is there keeps its bundle."""
        self.put("deployments", *(deployment("offers", name) for name in OURS))
        self.put("jobs", named("bucket", "offers", status=condition("Complete")))
        if not self.objects["inferenceservices"]:
            status = condition("Ready", "False", message="waits") | {"observedGeneration": 1}
            spec = {"predictor": {"model": {"modelFormat": {"name": "offers-bundle"}}}}
            self.put("inferenceservices", named("offers", "offers", spec=spec, status=status))
        self._reconcile()

    def serve(self, bundle: str, ready: str = "True", **more: str) -> None:
        """Point the service to a bundle."""
        (service,) = self.objects["inferenceservices"]
        service["spec"]["predictor"]["model"]["storageUri"] = bundle
        service["status"] |= condition("Ready", ready, **more)
        self._reconcile()

    def _reconcile(self) -> None:
        """Make the deployment of the service, as KServe does."""
        (service,) = self.objects["inferenceservices"]
        predictor = deployment("offers", "offers-predictor")
        if uri := service["spec"]["predictor"]["model"].get("storageUri"):
            told = {"internal.serving.kserve.io/storage-initializer-sourceuri": uri}
            predictor["spec"]["template"] = {"metadata": {"annotations": told}}
            pod = named("offers-predictor-7c", "offers", spec={"containers": []}, status=condition("Ready"))
            pod["metadata"] |= {"annotations": told, "labels": {"serving.kserve.io/inferenceservice": "offers"}}
            if not any(one["metadata"]["namespace"] == "offers" for one in self.objects["pods"]):
                self.put("pods", pod)
        self.put("deployments", predictor)

    def end(self) -> Object:
        """End the newest run."""
        workflow = self.objects["workflows"][-1]
        workflow["status"] = {"phase": "Failed" if self.lost else self.ends} | condition("Completed")
        if self.ends == "Succeeded" and self.passed:
            self.champion = SERVED
            self.serve(SERVED)
        return workflow

    def found(self, plural: str, namespace: str, query: dict[str, list[str]]) -> list[Object]:
        wanted = dict(one.split("=") for one in query.get("labelSelector", [""])[0].split(",") if one)
        fields = dict(one.split("=") for one in query.get("fieldSelector", [""])[0].split(",") if one)

        def fits(one: Object) -> bool:
            return (
                namespace in ("", one["metadata"]["namespace"])
                and wanted.items() <= one["metadata"].get("labels", {}).items()
                and fields.get("metadata.name", one["metadata"]["name"]) == one["metadata"]["name"]
                and fields.get("status.phase", "") in ("", one.get("status", {}).get("phase"))
            )

        return [typed(plural, one) for one in self.objects[plural] if fits(one)]


class _Handler(loopback.Handler):
    double: ClusterDouble

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/program":
            environment, *call = body
            self.double.environment = environment
            self.send_json(200, self.double.programs(*call))
        else:
            assert self.path == "/v1/models/offers:predict"
            self.double.asked.append(body)
            self.send_json(200, {"predictions": [{"customer_id": "example-1"}]})

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/readyz":
            self.send(200, "text/plain", b"ok")
        elif answer := discovery(url.path):
            self.send_json(200, answer)
        elif KINDS.keys() & set(url.path.split("/")):
            self._resource(url.path.split("/"), parse_qs(url.query))
        else:
            self.send_json(404, missing(url.path))

    def _resource(self, path: list[str], query: dict[str, list[str]]) -> None:
        place = next(place for place, part in enumerate(path) if part in KINDS)
        namespace = path[path.index("namespaces") + 1] if "namespaces" in path else ""
        plural, *name = path[place:]
        if name[1:] == ["log"]:
            self.send(200, "text/plain", self.double.logs[name[0]].encode())
        elif name:
            (found,) = self.double.found(plural, namespace, {"fieldSelector": [f"metadata.name={name[0]}"]}) or [None]
            self.send_json(200, found) if found else self.send_json(404, missing(f'{plural} "{name[0]}"'))
        elif "watch" in query:
            self._watch(plural)
        else:
            version, kind, _ = KINDS[plural]
            items = self.double.found(plural, namespace, query)
            self.send_json(
                200,
                {
                    "kind": f"{kind}List",
                    "apiVersion": version,
                    "metadata": {"resourceVersion": "1"},
                    "items": items,
                },
            )

    def _watch(self, plural: str) -> None:
        """Only a run of a pipeline takes its time here: it ends when somebody waits for that."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        if plural == "workflows" and self.double.objects[plural]:
            event = {"type": "MODIFIED", "object": typed(plural, self.double.end())}
            self.wfile.write(json.dumps(event).encode() + b"\n")
        self.connection.recv(1)
