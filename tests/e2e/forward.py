"""Ports of pods on loopback, by kubectl, kept open while pods come and go."""

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

from tests.e2e.awaiting import await_that

SECONDS = 60.0
LOOK_SECONDS = 0.2


@contextmanager
def forwarded(namespace: str, target: str, *ports: int, log: Path) -> Iterator[list[str]]:
    """Lead ports of loopback to those of one pod of a deployment or service; gives their URLs.

    kubectl ends with the pod that it leads to. Then it is started again, and leads to another.
    """
    local = [free_port() for _ in ports]
    pairs = [f"{here}:{there}" for here, there in zip(local, ports, strict=True)]
    command = ["kubectl", "--namespace", namespace, "port-forward", "--address", "127.0.0.1", target, *pairs]
    stopped = Event()
    thread = Thread(target=_keep, args=(command, stopped, log))
    thread.start()
    try:
        for port in local:
            what = f"a way to {target} in namespace {namespace}"
            await_that(what, partial(_listens, port), SECONDS, f"{' '.join(command)}, and its log {log}")
        yield [f"http://127.0.0.1:{port}" for port in local]
    finally:
        stopped.set()
        thread.join()


def _keep(command: Sequence[str], stopped: Event, log: Path) -> None:
    with log.open("a", encoding="utf-8") as said:
        while not stopped.is_set():
            with subprocess.Popen(command, stdout=said, stderr=said) as process:
                while process.poll() is None and not stopped.wait(LOOK_SECONDS):
                    pass
                process.terminate()
            stopped.wait(LOOK_SECONDS)


def _listens(port: int) -> tuple[bool | None, str]:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as error:
        return None, str(error)
    return True, "it listens"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])
