"""A small Kubernetes API server on loopback: the wire format of InferenceServices and pods, as far as it is used here.

It speaks server-side apply (merging, with owners of fields and conflicts), watches (a line of JSON per event), and
answers errors as `Status` objects.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices"
Object = dict[str, Any]


class KubernetesDouble:
    """InferenceServices of namespace `bank`, and pods with their logs.

    `controller` is called with the object after each change, in the place of KServe's: it sets the status.
    `refuse` maps "METHOD path" to a status that is answered; `broken` ends each watch in mid-line;
    `told` counts the events of watches.
    """

    def __init__(self, controller: Callable[[Object], None]) -> None:
        self.controller = controller
        self.services: dict[str, Object] = {}
        self.owners: dict[str, dict[str, str]] = {}
        self.pods: list[Object] = []
        self.logs: dict[str, str] = {}
        self.refuse: dict[str, int] = {}
        self.broken = False
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.told = 0
        self.changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def api(self) -> client.ApiClient:
        configuration = client.Configuration()
        configuration.host = self.url
        configuration.retries = False
        return client.ApiClient(configuration)

    def add(self, name: str, spec: Object) -> Object:
        """Make a service as `kubectl apply` would, owned by nobody in particular."""
        service = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": "bank", "generation": 1, "annotations": {"owner": "team"}},
            "spec": spec,
        }
        self.services[name] = service
        self.owners[name] = {}
        self.controller(service)
        return service

    def change(self, name: str, what: Callable[[Object], None]) -> None:
        with self.changed:
            what(self.services[name])
            self.changed.notify_all()

    def apply(self, name: str, body: Object, manager: str, force: bool) -> tuple[int, Object]:
        service = self.services.get(name)
        if service is None:
            return _status(404, f'inferenceservices.serving.kserve.io "{name}" not found')
        leaves = dict(_leaves({key: body[key] for key in ("spec",)} | {"a": body["metadata"].get("annotations", {})}))
        owners = self.owners[name]
        others = {path for path in leaves if owners.get(path, manager) != manager}
        if others and not force:
            return _status(409, f"Apply failed with {len(others)} conflict: {', '.join(others)}")
        owners |= dict.fromkeys(leaves, manager)
        with self.changed:
            before = deepcopy(service["spec"])
            _merge(service["spec"], body["spec"])
            service["metadata"]["annotations"] |= body["metadata"].get("annotations", {})
            service["metadata"]["generation"] += before != service["spec"]
            self.controller(service)
            self.changed.notify_all()
        return 200, service

    def events(self, name: str, seconds: float) -> Iterator[Object]:
        """The object as it is, then as it becomes, until the time of the watch is over."""
        seen: Object | None = None
        while True:
            with self.changed:
                if seen == self.services.get(name) and not self.changed.wait(seconds):
                    return
                now = deepcopy(self.services.get(name))
            if now is None:
                yield {"type": "DELETED", "object": seen}
                return
            yield {"type": "ADDED" if seen is None else "MODIFIED", "object": now}
            with self.changed:
                self.told += 1
                self.changed.notify_all()
            seen = now


def _merge(into: Object, changes: Object) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for key, item in value.items():
        yield from _leaves(item, f"{path}.{key}")


def _status(code: int, message: str) -> tuple[int, Object]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def _handler(double: KubernetesDouble) -> type[BaseHTTPRequestHandler]:
    services, pods = SERVICES.format("bank"), "/api/v1/namespaces/kubeflow/pods"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            double.requests.append((self.command, url.path, query))
            if status := double.refuse.get(f"{self.command} {url.path}"):
                self._json(*_status(status, f"refused with {status}"))
            elif url.path == services and query.get("watch"):
                self._watch(query)
            elif url.path.startswith(f"{services}/"):
                self._service(url.path.removeprefix(f"{services}/"), query, body)
            elif url.path == pods:
                wanted = query["labelSelector"].partition("=")[2]
                found = [pod for pod in double.pods if wanted in pod["metadata"]["labels"].values()]
                self._json(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})
            elif url.path.startswith(f"{pods}/") and url.path.endswith("/log"):
                self._send(200, "text/plain", double.logs[url.path.split("/")[-2]].encode())
            else:
                self._json(*_status(404, f"{url.path} not found"))

        def _service(self, name: str, query: dict[str, str], body: bytes) -> None:
            if self.command == "GET":
                found = double.services.get(name)
                self._json(*((200, found) if found else _status(404, f'"{name}" not found')))
            elif self.headers["content-type"] != "application/apply-patch+yaml":
                self._json(*_status(415, f"{self.headers['content-type']} is not server-side apply"))
            else:
                force = query.get("force", "").lower() == "true"
                self._json(*double.apply(name, json.loads(body), query["fieldManager"], force))

        def _watch(self, query: dict[str, str]) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("transfer-encoding", "chunked")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            with suppress(OSError):
                for event in double.events(query["fieldSelector"].partition("=")[2], float(query["timeoutSeconds"])):
                    line = json.dumps(event).encode() + b"\n"
                    if double.broken:
                        self.wfile.write(b"%x\r\n%b" % (len(line), line[: len(line) // 2]))
                        return
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
                self.wfile.write(b"0\r\n\r\n")

        def _json(self, status: int, content: Object) -> None:
            self._send(status, "application/json", json.dumps(content).encode())

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = do_POST = do_DELETE = _do  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    return Handler
