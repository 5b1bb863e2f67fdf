"""docker, kind and what kubectl changes, as stand-ins on a cluster double."""

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cluster_objects import CRDS, condition, named

if TYPE_CHECKING:
    from tests.support.cluster_double import ClusterDouble

Answer = tuple[int, str, str]
"""Exit code, standard output, standard error."""

READING = ("get", "wait", "rollout", "logs", "create", "annotate", "version")
"""Verbs of kubectl that change nothing as they are used here; `create` and `annotate` stay on this machine."""


class Programs:
    """Answers a call of a program; without an exit code kubectl answers it, since it only reads."""

    def __init__(self, cluster: "ClusterDouble") -> None:
        self._cluster = cluster

    def __call__(self, name: str, *arguments: str) -> tuple[int | None, str, str]:
        *argv, piped = arguments
        call = " ".join((name, *argv))
        self._cluster.calls.append(call)
        if failure := next((answer for part, answer in self._cluster.fails.items() if part in call), None):
            return failure
        if name != "kubectl":
            return getattr(self, f"_{name}")(argv)
        argv = argv[2:] if argv[0] == "--context" else argv
        argv = argv[2:] if argv[0] == "-n" else argv
        return (None, "", "") if argv[0] in READING else getattr(self, f"_{argv[0]}")(argv[1:], piped)

    def _docker(self, argv: list[str]) -> Answer:
        match argv:
            case ["info", *_]:
                return 0, f"{self._cluster.engine}\n", ""
            case ["image", "inspect", image]:
                built = image in self._cluster.images
                return (0, "[]\n", "") if built else (1, "[]\n", f"Error: No such image: {image}\n")
            case ["image", "ls", "--filter", reference, "--format", "{{.Repository}}:{{.Tag}}  {{.Size}}"]:
                pattern = reference.removeprefix("reference=")
                return (
                    0,
                    "".join(f"{image}  684MB\n" for image in sorted(self._cluster.images) if fnmatch(image, pattern)),
                    "",
                )
            case ["build", *_, "--tag", image, "."]:
                self._cluster.images.add(image)
                if self._cluster.environment.get("BUILDX_NO_DEFAULT_ATTESTATIONS") != "1":
                    self._cluster.attested.add(image)
                return 0, "", ""
            case ["port", container, port]:
                if address := self._cluster.published.get(port.removesuffix("/tcp")):
                    return 0, f"{address}\n", ""
                return 1, "", f"Error: No public port '{port}' published for {container}\n"
        raise AssertionError(argv)

    def _offers(self, argv: list[str]) -> Answer:
        """As `offers deploy` and `offers rollback`, which follow the ledger."""
        assert argv[1:3] == ["--key", "build/ledger-keys/admin.pem"]
        if argv[0] == "rollback":
            return 2, "", "offers: contract bank-marketing: there is no former champion to return to\n"
        if not self._cluster.champion:
            return 3, "nobody has promoted a release yet: 'offers deploy RELEASE' does it\n", ""
        self._cluster.serve(self._cluster.champion)
        return 0, f"InferenceService offers/offers serves {self._cluster.champion}\n", ""

    def _sleep(self, argv: list[str]) -> Answer:
        return 0, "", ""

    def _sysctl(self, argv: list[str]) -> Answer:
        assert argv == ["-n", "fs.inotify.max_user_instances"]
        return (
            (0, f"{self._cluster.watchers}\n", "")
            if self._cluster.watchers
            else (1, "", f"sysctl: unknown oid '{argv[-1]}'\n")
        )

    def _kind(self, argv: list[str]) -> Answer:
        match argv:
            case ["version"]:
                return 0, "kind v0.30.0 go1.24.6 linux/amd64\n", ""
            case ["get", "clusters"]:
                none = "" if self._cluster.clusters else "No kind clusters found.\n"
                return 0, "".join(f"{name}\n" for name in self._cluster.clusters), none
            case ["create", "cluster", "--name", name, *_]:
                self._cluster.make(name)
            case ["delete", "cluster", "--name", name]:
                self._cluster.clusters = [one for one in self._cluster.clusters if one != name]
            case ["load", "docker-image", "--name", name, *images]:
                assert name in self._cluster.clusters
                assert set(images) <= self._cluster.images
                if self._cluster.attested & set(images):
                    return 1, "", "ERROR: failed to load image: ctr: content digest sha256:0123: not found\n"
            case _:
                raise AssertionError(argv)
        return 0, "", ""

    def _apply(self, argv: list[str], piped: str) -> Answer:
        what = argv[-1]
        definitions = {one["metadata"]["name"] for one in self._cluster.objects["customresourcedefinitions"]}
        if what.endswith("kserve-storage") and "clusterstoragecontainers.serving.kserve.io" not in definitions:
            return 1, "", 'error: no matches for kind "ClusterStorageContainer": ensure CRDs are installed first\n'
        if what.endswith("platform/kserve") and "kserve" not in self._cluster.namespaces:
            return 1, "", 'Error from server (NotFound): namespaces "kserve" not found\n'
        if what.endswith("kserve-namespace.yaml"):
            self._cluster.namespaces.add("kserve")
        self._cluster.applied.append(piped or what)
        parts = {"cert-manager": "cert-manager", "kserve": "kserve", "pipelines": "kubeflow"}
        if part := parts.get(Path(what).name):
            self._cluster.install(part)
        elif what.endswith("pipelines-crds"):
            self._cluster.put(
                "customresourcedefinitions",
                *(named(name, status=condition("Established")) for name in CRDS["kubeflow"]),
            )
        elif what == "build/deploy":
            self._cluster.deploy()
        return 0, f"{what} serverside-applied\n", ""

    def _delete(self, _: list[str], __: str) -> Answer:
        return 0, "", ""

    def _exec(self, argv: list[str], piped: str) -> Answer:
        if "submit" in argv:
            return self._submit(argv[argv.index("--name") + 1])
        if "status" in argv:
            return self._run_status(argv[-1])
        if "-c" in argv and argv[argv.index("-c") + 1] == "trigger":
            return self._in_trigger(argv[argv.index("--") + 1 :], piped)
        if "serving.ranker.question" in argv[-1]:
            return 0, '{"instances": [{"customer_id": "example-1"}]}\n', ""
        self._cluster.asked.append(json.loads(piped))
        return 0, '{"predictions": []}\n', ""

    def _in_trigger(self, argv: list[str], piped: str) -> Answer:
        """Commands on keys and on files of the pod's scratch directory."""
        match argv:
            case ["offers", "key", "new", name, "--directory", "/tmp/keys"]:
                self._cluster.scratch[f"/tmp/keys/{name}.pem"] = f"the key of {name}"
            case ["offers", "key", "show", path]:
                return 0, f"public half of {self._cluster.scratch[path]}\n", ""
            case ["offers", "key", "add", public, "--name", name, *roles, "--key", admin]:
                assert (public, admin in self._cluster.scratch) == (f"public half of the key of {name}", True)
                if name in self._cluster.added:
                    lost = any(secret["metadata"]["name"] == "lost" for secret in self._cluster.objects["secrets"])
                    before = f"{name} has a key already; withdraw that first" if lost else "key 01 was added before"
                    return 2, "", f"offers: {before}\n"
                self._cluster.added[name] = tuple(roles[1::2])
                return 0, f"entry 1: key 01 of {name} may sign as {', '.join(roles[1::2])}\n", ""
            case ["offers", "key", "list"]:
                rows = (
                    f"0{place} {name} {' '.join(roles)}"
                    for place, (name, roles) in enumerate(self._cluster.added.items())
                )
                return 0, "\n".join(["id owner roles withdrawn", *rows]), ""
            case ["offers", "key", "withdraw", number, "--reason", _, "--key", _]:
                del self._cluster.added[list(self._cluster.added)[int(number)]]
            case ["cat", path]:
                return 0, self._cluster.scratch[path], ""
            case ["sh", "-c", script]:
                self._cluster.scratch[script.rpartition("> ")[2]] = piped
            case ["rm", *_, path]:
                kept = {one: content for one, content in self._cluster.scratch.items() if not one.startswith(path)}
                self._cluster.scratch = kept
            case _:
                raise AssertionError(argv)
        return 0, "", ""

    def _submit(self, name: str) -> Answer:
        """As `offers pipeline submit`: a name that is there starts no second run."""
        ended = {"Succeeded": "succeeded", "Failed": "failed"}
        if name not in self._cluster.runs:
            self._cluster.runs.append(name)
            workflow = named("offers-training-x", "kubeflow", status={"phase": "Running"} | condition("PodRunning"))
            workflow["metadata"]["labels"] = {"pipeline/runid": f"run-{name}"}
            self._cluster.objects["workflows"].append(workflow)
        workflow = self._cluster.objects["workflows"][self._cluster.runs.index(name)]
        state = ended.get(workflow["status"]["phase"], "running")
        return 0, f"run-{name}  {name}  {state}\nhttp://ml-pipeline.kubeflow:8888/#/runs/details/run-{name}\n", ""

    def _run_status(self, run: str) -> Answer:
        """As `offers pipeline status`."""
        name = run.removeprefix("run-")
        phase = self._cluster.objects["workflows"][self._cluster.runs.index(name)]["status"]["phase"]
        code, state, reason = 0, "succeeded", ""
        if phase == "Failed":
            code, state, reason = 1, "failed", self._cluster.reason
            if self._cluster.lost:
                self._cluster.lost -= 1
                reason = "Kubeflow lost it: its own task train-driver failed, no step of ours; only a new run helps"
        elif not self._cluster.passed:
            code, state, reason = 3, "refused", "gate: failed: auc at least 0.99"
        page = f"http://ml-pipeline.kubeflow:8888/#/runs/details/{run}"
        return (
            code,
            f"{name}  {state}  began 2026-01-01 00:00:00, 155 s  {run}\n{page}\n",
            f"  {reason}\n" if reason else "",
        )
