"""A cluster on loopback, and the programs that lead to it.

docker, kind and the half of kubectl that changes something are stand-ins, whose answers have the form of the real ones;
what kubectl reads, it reads itself, from a small Kubernetes API. kubectl and curl are real.
"""

import json
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support import loopback
from tests.support.loopback import Loopback

Object = dict[str, Any]
Answer = tuple[int, str, str]
"""Exit code, standard output, standard error."""

TOOLS = ["awk", "base64", "bash", "cat", "curl", "date", "df", "dirname", "env", "git", "grep", "mkdir", "sed", "tail"]
READING = ("get", "wait", "rollout", "logs", "create", "annotate", "version")
"""Verbs of kubectl that change nothing as they are used here; `create` and `annotate` stay on this machine."""
KINDS = {
    "nodes": ("v1", "Node", False),
    "pods": ("v1", "Pod", True),
    "secrets": ("v1", "Secret", True),
    "deployments": ("apps/v1", "Deployment", True),
    "jobs": ("batch/v1", "Job", True),
    "customresourcedefinitions": ("apiextensions.k8s.io/v1", "CustomResourceDefinition", False),
    "validatingwebhookconfigurations": ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", False),
    "inferenceservices": ("serving.kserve.io/v1beta1", "InferenceService", True),
    "workflows": ("argoproj.io/v1alpha1", "Workflow", True),
}
PLATFORM = {
    "cert-manager": ("cert-manager", "cert-manager-cainjector", "cert-manager-webhook"),
    "kserve": ("kserve-controller-manager",),
    "kubeflow": ("ml-pipeline", "ml-pipeline-ui", "mysql", "seaweedfs", "workflow-controller"),
}
CRDS = {
    "cert-manager": ("certificates.cert-manager.io",),
    "kserve": ("inferenceservices.serving.kserve.io", "clusterstoragecontainers.serving.kserve.io"),
    "kubeflow": ("workflows.argoproj.io", "scheduledworkflows.kubeflow.org"),
}
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


def named(name: str, namespace: str = "", **content: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, "generation": 1}} | content


def condition(kind: str, status: str = "True", **more: str) -> Object:
    return {"conditions": [{"type": kind, "status": status} | more]}


def deployment(namespace: str, name: str, available: int = 1) -> Object:
    counts = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": available, "availableReplicas": available}
    status = condition("Available", "True" if available else "False") | {"observedGeneration": 1}
    # The API leaves out a number that is 0.
    status |= {key: number for key, number in counts.items() if number}
    return named(name, namespace, spec={"replicas": 1, "selector": {"matchLabels": {"app": name}}}, status=status)


class ClusterDouble(Loopback):
    """What is on the machine and on the cluster; each field may be set before a command, and tells afterwards.

    `calls` are the programs that were called, with their arguments; `fails` maps a part of a call to an answer that it
    gets instead; `ends` is how a run of a pipeline ends, `reason` why it failed, `lost` how many runs Kubeflow loses,
    and `passed` whether its model passes the gate; `attested` are images that kind can't load, as they were built with
    attestations.
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
        super().__init__(_handler(self), patient=False)
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
        for program in ("docker", "kind", "kubectl", "sleep", "sysctl"):
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

    def program(self, name: str, *arguments: str) -> tuple[int | None, str, str]:
        *argv, piped = arguments
        call = " ".join((name, *argv))
        self.calls.append(call)
        if failure := next((answer for part, answer in self.fails.items() if part in call), None):
            return failure
        if name != "kubectl":
            return getattr(self, f"_{name}")(argv)
        argv = argv[2:] if argv[0] == "--context" else argv
        argv = argv[2:] if argv[0] == "-n" else argv
        return (None, "", "") if argv[0] in READING else getattr(self, f"_{argv[0]}")(argv[1:], piped)

    def _docker(self, argv: list[str]) -> Answer:
        match argv:
            case ["info", *_]:
                return 0, f"{self.engine}\n", ""
            case ["image", "inspect", image]:
                found = image in self.images
                return (0, "[]\n", "") if found else (1, "[]\n", f"Error: No such image: {image}\n")
            case ["image", "ls", "--filter", reference, "--format", "{{.Repository}}:{{.Tag}}  {{.Size}}"]:
                pattern = reference.removeprefix("reference=")
                return 0, "".join(f"{image}  684MB\n" for image in sorted(self.images) if fnmatch(image, pattern)), ""
            case ["build", *_, "--tag", image, "."]:
                self.images.add(image)
                if self.environment.get("BUILDX_NO_DEFAULT_ATTESTATIONS") != "1":
                    self.attested.add(image)
                return 0, "", ""
            case ["port", container, port]:
                if address := self.published.get(port.removesuffix("/tcp")):
                    return 0, f"{address}\n", ""
                return 1, "", f"Error: No public port '{port}' published for {container}\n"
        raise AssertionError(argv)

    def _sleep(self, argv: list[str]) -> Answer:
        return 0, "", ""

    def _sysctl(self, argv: list[str]) -> Answer:
        assert argv == ["-n", "fs.inotify.max_user_instances"]
        return (0, f"{self.watchers}\n", "") if self.watchers else (1, "", f"sysctl: unknown oid '{argv[-1]}'\n")

    def _kind(self, argv: list[str]) -> Answer:
        match argv:
            case ["version"]:
                return 0, "kind v0.30.0 go1.24.6 linux/amd64\n", ""
            case ["get", "clusters"]:
                none = "" if self.clusters else "No kind clusters found.\n"
                return 0, "".join(f"{name}\n" for name in self.clusters), none
            case ["create", "cluster", "--name", name, *_]:
                self.make(name)
            case ["delete", "cluster", "--name", name]:
                self.clusters = [one for one in self.clusters if one != name]
            case ["load", "docker-image", "--name", name, *images]:
                assert name in self.clusters
                assert set(images) <= self.images
                if self.attested & set(images):
                    return 1, "", "ERROR: failed to load image: ctr: content digest sha256:0123: not found\n"
            case _:
                raise AssertionError(argv)
        return 0, "", ""

    def _apply(self, argv: list[str], piped: str) -> Answer:
        what = argv[-1]
        known = {one["metadata"]["name"] for one in self.objects["customresourcedefinitions"]}
        if what.endswith("kserve-storage") and "clusterstoragecontainers.serving.kserve.io" not in known:
            return 1, "", 'error: no matches for kind "ClusterStorageContainer": ensure CRDs are installed first\n'
        if what.endswith("platform/kserve") and "kserve" not in self.namespaces:
            return 1, "", 'Error from server (NotFound): namespaces "kserve" not found\n'
        if what.endswith("kserve-namespace.yaml"):
            self.namespaces.add("kserve")
        self.applied.append(piped or what)
        parts = {"cert-manager": "cert-manager", "kserve": "kserve", "pipelines": "kubeflow"}
        if part := parts.get(Path(what).name):
            self.install(part)
        elif what.endswith("pipelines-crds"):
            self.put(
                "customresourcedefinitions",
                *(named(name, status=condition("Established")) for name in CRDS["kubeflow"]),
            )
        elif what == "build/deploy":
            self.deploy()
        return 0, f"{what} serverside-applied\n", ""

    def _delete(self, _: list[str], __: str) -> Answer:
        return 0, "", ""

    def _exec(self, argv: list[str], piped: str) -> Answer:
        if "submit" in argv:
            return self._submit(argv[argv.index("--name") + 1])
        if "status" in argv:
            return self._run_status(argv[-1])
        if "serving.ranker.question" in argv[-1]:
            return 0, '{"instances": [{"customer_id": "example-1"}]}\n', ""
        self.asked.append(json.loads(piped))
        return 0, '{"predictions": []}\n', ""

    def _submit(self, name: str) -> Answer:
        """As `offers pipeline submit`: a name that is there starts no second run."""
        ended = {"Succeeded": "succeeded", "Failed": "failed"}
        if name not in self.runs:
            self.runs.append(name)
            workflow = named("offers-training-x", "kubeflow", status={"phase": "Running"} | condition("PodRunning"))
            workflow["metadata"]["labels"] = {"pipeline/runid": f"run-{name}"}
            self.objects["workflows"].append(workflow)
        workflow = self.objects["workflows"][self.runs.index(name)]
        state = ended.get(workflow["status"]["phase"], "running")
        return 0, f"run-{name}  {name}  {state}\nhttp://ml-pipeline.kubeflow:8888/#/runs/details/run-{name}\n", ""

    def _run_status(self, run: str) -> Answer:
        """As `offers pipeline status`."""
        name = run.removeprefix("run-")
        phase = self.objects["workflows"][self.runs.index(name)]["status"]["phase"]
        code, state, reason = 0, "succeeded", ""
        if phase == "Failed":
            code, state, reason = 1, "failed", self.reason
            if self.lost:
                self.lost -= 1
                reason = "Kubeflow lost it: its own task train-driver failed, no step of ours; only a new run helps"
        elif not self.passed:
            code, state, reason = 3, "refused", "gate: failed: auc at least 0.99"
        page = f"http://ml-pipeline.kubeflow:8888/#/runs/details/{run}"
        return (
            code,
            f"{name}  {state}  began 2026-01-01 00:00:00, 155 s  {run}\n{page}\n",
            f"  {reason}\n" if reason else "",
        )

    def end(self) -> Object:
        """End the newest run."""
        workflow = self.objects["workflows"][-1]
        workflow["status"] = {"phase": "Failed" if self.lost else self.ends} | condition("Completed")
        if self.ends == "Succeeded" and self.passed:
            self.serve("s3://offers/bundles/bank-marketing-1")
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

        return [_typed(plural, one) for one in self.objects[plural] if fits(one)]


def _typed(plural: str, one: Object) -> Object:
    version, kind, _ = KINDS[plural]
    return {"apiVersion": version, "kind": kind} | one


def _missing(what: str) -> Object:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
    return status | {"message": f"{what} not found"}


def _discovery(path: str) -> Object | None:
    versions = sorted({version for version, *_ in KINDS.values()} - {"v1"})
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [{"groupVersion": one, "version": one.partition("/")[2]} for one in versions]
        named = [{"name": one["groupVersion"].partition("/")[0], "versions": [one]} for one in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in ("v1", *versions):
        return None
    resources = [
        {
            "name": name,
            "singularName": kind.lower(),
            "namespaced": spaced,
            "kind": kind,
            "verbs": ["get", "list", "watch"],
        }
        | ({"shortNames": ["crd"]} if name == "customresourcedefinitions" else {})
        for name, (group, kind, spaced) in KINDS.items()
        if group == version
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _handler(double: ClusterDouble) -> type[loopback.Handler]:
    class Handler(loopback.Handler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path == "/program":
                environment, *call = body
                double.environment = environment
                self.send_json(200, double.program(*call))
            else:
                assert self.path == "/v1/models/offers:predict"
                double.asked.append(body)
                self.send_json(200, {"predictions": [{"customer_id": "example-1"}]})

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path == "/readyz":
                self.send(200, "text/plain", b"ok")
            elif found := _discovery(url.path):
                self.send_json(200, found)
            elif KINDS.keys() & set(url.path.split("/")):
                self._resource(url.path.split("/"), parse_qs(url.query))
            else:
                self.send_json(404, _missing(url.path))

        def _resource(self, path: list[str], query: dict[str, list[str]]) -> None:
            place = next(place for place, part in enumerate(path) if part in KINDS)
            namespace = path[path.index("namespaces") + 1] if "namespaces" in path else ""
            plural, *name = path[place:]
            if name[1:] == ["log"]:
                self.send(200, "text/plain", double.logs[name[0]].encode())
            elif name:
                (found,) = double.found(plural, namespace, {"fieldSelector": [f"metadata.name={name[0]}"]}) or [None]
                self.send_json(200, found) if found else self.send_json(404, _missing(f'{plural} "{name[0]}"'))
            elif "watch" in query:
                self._watch(plural)
            else:
                version, kind, _ = KINDS[plural]
                items = double.found(plural, namespace, query)
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
            if plural == "workflows" and double.objects[plural]:
                event = {"type": "MODIFIED", "object": _typed(plural, double.end())}
                self.wfile.write(json.dumps(event).encode() + b"\n")
            self.connection.recv(1)

    return Handler
