"""A small Kubernetes API server on loopback: the wire format of InferenceServices and pods, as far as it is used here.

It speaks server-side apply (with the managers of fields), watches (a line of JSON per event), and answers errors as
`Status` objects, in the words of a kube-apiserver.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from tests.support import loopback, port_forward
from tests.support.loopback import Loopback

SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/bank/inferenceservices"
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
PODS = "/api/v1/namespaces/kubeflow/pods"
KIND = "inferenceservices.serving.kserve.io"
VERBS = {"PATCH": "patch", "POST": "create", "PUT": "update", "DELETE": "delete"}
Object = dict[str, Any]
PREDICTOR_SPEC: Object = {
    "labels": {"app.kubernetes.io/name": "offers", "offers/object-store": ""},
    "serviceAccountName": "serving",
    "minReplicas": 2,
    "containers": [{"name": "transformer-container", "image": "offers-serving"}],
    "model": {
        "modelFormat": {"name": "offers-bundle"},
        "runtime": "offers-bundle",
        "protocolVersion": "v2",
        "resources": {"limits": {"cpu": "1"}},
    },
}
"""The predictor of a service that has no release yet."""


class Right(NamedTuple):
    """What an account has to be granted for a request; `name` is empty where it is about any object."""

    group: str
    resource: str
    name: str
    verb: str


class KubernetesDouble(Loopback):
    """InferenceServices of namespace `bank`, and pods with their logs.

    `controller` is called with the object after each change, in the place of KServe's: it sets the status.
    `refuse` maps "METHOD path" to a status that is answered; `lasts` is how many events a watch tells before it ends,
    all by default, and `breaks` makes it end in mid-line, as where the server is killed; `told` counts the events.
    An apply makes a service that is not there, and `user` is what a SelfSubjectReview says of whoever calls.
    `minimal` stands for KServe's minimal definitions, whose `spec` has one owner as a whole. `others` are more objects
    by their path, and `forwards` maps a pod to what listens behind its port.
    """

    def __init__(self, controller: Callable[[Object], None]) -> None:
        self.controller = controller
        self.services: dict[str, Object] = {}
        self.pods: list[Object] = []
        self.logs: dict[str, str] = {}
        self.others: dict[str, Object] = {}
        self.forwards: dict[str, tuple[str, int]] = {}
        self.refuse: dict[str, int] = {}
        self.minimal = False
        self.user = "ann@bank.example"
        self.lasts: int | None = None
        self.breaks = False
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.told = 0
        self.changed = threading.Condition()
        super().__init__(_Handler.of(self), patient=False)

    def rights(self) -> set[Right]:
        """What the requests so far would have needed."""
        return {_right(*request) for request in self.requests}

    def api(self) -> client.ApiClient:
        configuration = client.Configuration()
        configuration.host = self.url
        configuration.retries = False
        return client.ApiClient(configuration)

    def add(self, name: str, spec: Object) -> Object:
        """Make a service as somebody else's `kubectl apply` would; its spec has been changed twice since."""
        metadata = {"name": name, "namespace": "bank", "generation": 3, "resourceVersion": "1"}
        service = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": metadata | {"annotations": {"owner": "team"}, "managedFields": []},
            "spec": spec,
        }
        self.services[name] = service
        self.controller(service)
        return service

    def change(self, name: str, what: Callable[[Object], None]) -> None:
        with self.changed:
            service = self.services[name]
            what(service)
            service["metadata"]["resourceVersion"] = str(int(service["metadata"]["resourceVersion"]) + 1)
            self.changed.notify_all()

    def apply(self, name: str, body: Object, manager: str, dry_run: bool) -> Object:
        """Take over what is in the body; the answer is the object as it is before its controller has seen it."""

        if name not in self.services:
            self.requests.append(("POST", f"{SERVICES}/{name}", {}))
            self.add(name, body["spec"])

        def merge(service: Object) -> None:
            before = deepcopy(service["spec"])
            if self.minimal:
                service["spec"] = {}
            _merge(service, body)
            metadata = service["metadata"]
            metadata["generation"] += before != service["spec"]
            ours = {"metadata": {"annotations": body["metadata"]["annotations"]}, "spec": body["spec"]}
            managed = {"manager": manager, "operation": "Apply", "apiVersion": service["apiVersion"]}
            managed |= {"fieldsType": "FieldsV1", "fieldsV1": _fields(ours)}
            others = [one for one in metadata["managedFields"] if one["manager"] != manager]
            metadata["managedFields"] = [*others, managed]

        with self.changed:
            if dry_run:
                merge(answer := deepcopy(self.services[name]))
                return answer
            self.change(name, merge)
            answer = deepcopy(self.services[name])
            self.change(name, self.controller)
        return answer

    def events(self, name: str, seconds: float) -> Iterator[Object]:
        """The object as it is, then as it becomes, until the time of the watch is over; nothing where there is none."""
        seen: Object | None = None
        while True:
            with self.changed:
                if seen == self.services.get(name) and not self.changed.wait(seconds):
                    return
                now = deepcopy(self.services.get(name))
            if now is None and seen is not None:
                yield {"type": "DELETED", "object": seen}
                return
            if now is not None:
                yield {"type": "ADDED" if seen is None else "MODIFIED", "object": now}
            seen = now


def _right(method: str, path: str, query: dict[str, str]) -> Right:
    """As a kube-apiserver reads a request: one object's list or watch is one that selects it by its name.

    It asks for the right to make an object without its name, as RBAC does.
    """
    if path == REVIEWS:
        return Right("authentication.k8s.io", "selfsubjectreviews", "", "create")
    group, _, _, _, resource, *names = path.removeprefix("/apis/").split("/")
    if names and method == "POST":
        return Right(group, resource, "", "create")
    if names:
        return Right(group, "/".join([resource, *names[1:]]), names[0], VERBS.get(method, "get"))
    selected = query.get("fieldSelector", "").removeprefix("metadata.name=")
    return Right(group, resource, selected, VERBS.get(method, "watch" if query.get("watch") else "list"))


def _merge(into: Object, changes: Object) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _fields(value: Any) -> Object:
    return {f"f:{key}": _fields(item) for key, item in value.items()} if isinstance(value, dict) else {}


def _status(code: int, name: str, verb: str) -> tuple[int, Object]:
    """An error about a service, in the server's words."""
    user = (
        f'User "me" cannot {verb} resource "inferenceservices" in API group "serving.kserve.io" in the namespace "bank"'
    )
    newer = "the object has been modified; please apply your changes to the latest version and try again"
    accepted = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    reason, message = {
        401: ("Unauthorized", "Unauthorized"),
        403: ("Forbidden", f'{KIND} "{name}" is forbidden: {user}'),
        404: ("NotFound", f'{KIND} "{name}" not found'),
        409: ("Conflict", f'Operation cannot be fulfilled on {KIND} "{name}": {newer}'),
        415: (
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - accepted media types include: {accepted}",
        ),
        500: (
            "InternalError",
            'Internal error occurred: failed calling webhook "inferenceservice.kserve-webhook-server.defaulter"',
        ),
    }[code]
    status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    details = {"name": name, "group": "serving.kserve.io", "kind": "inferenceservices"}
    return code, status | {"reason": reason, "details": details, "code": code}


class _Handler(loopback.Handler):
    double: KubernetesDouble

    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.double.requests.append((self.command, url.path, query))
        if status := self.double.refuse.get(f"{self.command} {url.path}"):
            verb = "watch" if query.get("watch") else self.command.lower()
            self.send_json(*_status(status, url.path.removeprefix(SERVICES).strip("/") or "offers", verb))
        elif url.path == SERVICES and query.get("watch"):
            self._watch(query)
        elif url.path.startswith(f"{SERVICES}/"):
            self._service(url.path.removeprefix(f"{SERVICES}/"), query, body)
        elif url.path == REVIEWS and self.command == "POST":
            asked = json.loads(body)
            self.send_json(201, asked | {"status": {"userInfo": {"username": self.double.user}}})
        elif url.path in self.double.others:
            self.send_json(200, self.double.others[url.path])
        elif url.path.endswith("/portforward"):
            pod = url.path.split("/")[-2]
            port_forward.serve(self, int(query["ports"]), self.double.forwards[pod])
        elif url.path == PODS:
            wanted = query["labelSelector"].partition("=")[2]
            found = [pod for pod in self.double.pods if wanted in pod["metadata"]["labels"].values()]
            self.send_json(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})
        elif url.path.startswith(f"{PODS}/") and url.path.endswith("/log"):
            self._log(url.path.split("/")[-2])
        else:
            self.send(404, "text/plain; charset=utf-8", b"404 page not found\n")

    def _log(self, pod: str) -> None:
        if pod in self.double.logs:
            self.send(200, "text/plain", self.double.logs[pod].encode())
            return
        message = f'container "main" in pod "{pod}" is waiting to start: PodInitializing'
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        self.send_json(400, status | {"reason": "BadRequest", "code": 400})

    def _service(self, name: str, query: dict[str, str], body: bytes) -> None:
        if name not in self.double.services and self.command != "PATCH":
            self.send_json(*_status(404, name, ""))
        elif self.command == "DELETE":
            with self.double.changed:
                self.send_json(200, self.double.services.pop(name))
                self.double.changed.notify_all()
        elif self.command == "GET":
            self.send_json(200, self.double.services[name])
        elif self.headers["content-type"] != "application/apply-patch+yaml":
            self.send_json(*_status(415, name, ""))
        elif query.get("force", "").lower() != "true":
            # As where somebody else has applied these fields.
            self.send_json(*_status(409, name, ""))
        else:
            dry_run = query.get("dryRun") == "All"
            self.send_json(200, self.double.apply(name, json.loads(body), query["fieldManager"], dry_run))

    def _watch(self, query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        events = self.double.events(query["fieldSelector"].partition("=")[2], float(query["timeoutSeconds"]))
        with suppress(OSError):
            for event in islice(events, self.double.lasts):
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
                with self.double.changed:
                    self.double.told += 1
                    self.double.changed.notify_all()
            self.wfile.write(b'20\r\n{"type":' if self.double.breaks else b"0\r\n\r\n")

    do_GET = do_PATCH = do_POST = do_DELETE = _do
