"""Forwards a port on loopback to a service's pods through the Kubernetes API, for which a kubeconfig suffices.

Each new connection goes to a pod that is ready at that moment, so the port keeps working through a roll-out.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import urllib3
from kubernetes import client
from kubernetes.stream import portforward

from offers.errors import ServiceError

_CHUNK = 64 * 1024
_ENDING = 1.0
"""Seconds that the client's thread of a connection has to end."""


@contextmanager
def forwarded(api: client.ApiClient, namespace: str, service: str, port: int, expected: bool = True) -> Iterator[str]:
    """Listen on a free port of loopback, and forward connections to a service; yields `127.0.0.1:PORT`.

    Parameters
    ----------
    expected : whether a pod of the service must be ready from the beginning

    Raises
    ------
    ServiceError
        there is no such service, none of its pods is ready, or the account may not forward ports to them
    """
    way = _Way(api, namespace, service, port)
    # Refuse here, where the reason is known; the first request would only find a closed connection.
    try:
        with way.connection():
            pass
    except _NotReadyError:
        if expected:
            raise
    with socket.create_server(("127.0.0.1", 0)) as listener, _quiet():
        thread = threading.Thread(target=_accept, args=(listener, way), name=f"forward {service}", daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # Closing the socket alone would not end accept().
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


class _NotReadyError(ServiceError):
    """No pod of the service takes a connection now."""


class _Way:
    """The way to a service's pods. Each connection makes a client of its own, since threads can't share one."""

    def __init__(self, api: client.ApiClient, namespace: str, service: str, port: int) -> None:
        self._configuration = api.configuration
        self._namespace, self._service, self._port = namespace, service, port

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """Open a socket to the port of a ready pod, for as long as the block lasts."""
        api = client.CoreV1Api(client.ApiClient(self._configuration))
        pod, port = self._pod(api)
        with self._calls("forward to"):
            connection = portforward(api.connect_get_namespaced_pod_portforward, pod, self._namespace, ports=str(port))
        there = connection.socket(port)
        try:
            yield there
        finally:
            there.close()
            _await_end(connection)

    def _pod(self, api: client.CoreV1Api) -> tuple[str, int]:
        with self._calls("find"):
            spec = api.read_namespaced_service(self._service, self._namespace).spec
            selector = ",".join(f"{key}={value}" for key, value in (spec.selector or {}).items())
            pods = api.list_namespaced_pod(self._namespace, label_selector=selector).items
        target = next((entry.target_port or entry.port for entry in spec.ports if entry.port == self._port), self._port)
        ready = [pod for pod in pods if pod.metadata.deletion_timestamp is None and _ready(pod)]
        if not ready:
            raise _NotReadyError(f"{self}: none of its {len(pods)} pods is ready; 'offers status' says why")
        return ready[-1].metadata.name, _number(ready[-1], target)

    def __str__(self) -> str:
        return f"service {self._namespace}/{self._service}"

    @contextmanager
    def _calls(self, verb: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            # For a refused web socket the client has no status, only the server's status line.
            refusal = error.status == 403 or "403" in str(error.reason)
            hint = (
                "the account that asks may not: it needs to get services, list pods and create pods/portforward there"
                if refusal
                else f"the cluster answers {error.status or ''} {str(error.reason)[:200]}".rstrip()
            )
            raise ServiceError(f"can't {verb} {self}: {hint}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ServiceError(f"can't {verb} {self}: the cluster does not answer: {str(error)[:200]}") from None


def _ready(pod: Any) -> bool:
    conditions = (pod.status.conditions if pod.status else None) or ()
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)


def _number(pod: Any, target: Any) -> int:
    """Find the number of a port that is given by number or by name."""
    ports = [port for container in pod.spec.containers for port in container.ports or ()]
    return next((int(port.container_port) for port in ports if port.name == target), 0) or int(target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tracebacks of the client's threads off the terminal when a pod vanishes in the middle of an answer."""
    before = threading.excepthook

    def hook(ended: threading.ExceptHookArgs) -> None:
        if ended.thread is None or not ended.thread.name.startswith("Kubernetes port forward"):
            before(ended)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _accept(listener: socket.socket, way: _Way) -> None:
    with suppress(OSError):
        while True:
            here, _ = listener.accept()
            threading.Thread(target=_join, args=(here, way), daemon=True).start()


def _join(here: socket.socket, way: _Way) -> None:
    """Copy bytes in both directions until one side ends."""
    # If no pod is ready, the caller sees a closed connection, and tries again while it waits for a roll-out.
    with here, suppress(ServiceError), way.connection() as there:
        back = threading.Thread(target=_copy, args=(there, here), daemon=True)
        back.start()
        _copy(here, there)
        back.join()


def _await_end(connection: Any) -> None:
    """Wait for the client's thread, which ends once its port is closed, unless the pod has ended it before."""
    end = time.monotonic() + _ENDING
    while connection.connected and time.monotonic() < end:
        time.sleep(0.01)
    connection.websocket.shutdown()


def _copy(source: Any, sink: Any) -> None:
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
