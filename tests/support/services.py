"""Services as processes on free ports of loopback, for tests that speak to them as their clients do."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE = 120.0


@dataclass(frozen=True)
class Service:
    """A service that answers."""

    process: subprocess.Popen[str]
    http_port: int
    grpc_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


@contextmanager
def serving(module: str, log: Path, *arguments: object, grpc: bool = True) -> Iterator[Service]:
    """Start a service on free ports, and stop it by SIGTERM, which has to end it with exit code 0."""
    call = command(module, *arguments, "--http_port", 0, *(("--grpc_port", 0) if grpc else ()))
    with log.open("w") as errors:
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text("utf-8")
        bound = json.loads(line)
        yield Service(process, bound["http_port"], bound.get("grpc_port", 0), log)
        process.terminate()
        assert process.wait(DEADLINE) == 0, log.read_text("utf-8")
    finally:
        process.kill()
        process.communicate()
