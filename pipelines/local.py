"""Runs a compiled pipeline on this machine, without a cluster: the same file that Kubeflow would run.

`run` starts kfp in a child process, keeps its log in a file, and reads the progress of the steps from it. The child is
this module as a program: `python -m pipelines.local PACKAGE DIRECTORY`.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, Literal

import yaml

from offers.steps.execution import MISTAKE, PREFIX

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([\w-]+)'")
_FINISHED = re.compile(r"Task '([\w-]+)' finished with status (\w+)")
_NOTE = re.compile(rf"^\s*{PREFIX}(.*)$")
_DISK_FULL = re.compile(r"OSError: \[Errno (?:28|122)\]")


@dataclass(frozen=True)
class Step:
    """One step of a run: its name, its state, its duration, and its last line of output."""

    name: str
    state: Literal["running", "done", "failed"]
    seconds: float = 0.0
    note: str = ""


@dataclass
class LocalRun:
    """A run in its directory: `pipeline.yaml`, `arguments.json`, `kfp.log`, and the artifacts below `root`."""

    directory: Path
    steps: dict[str, Step] = field(default_factory=dict)
    succeeded: bool = False
    mistake: str = ""

    @property
    def log(self) -> Path:
        return self.directory / "kfp.log"

    def artifact(self, step: str, name: str) -> Path | None:
        """Find the path of a step's artifact; None if the run did not get that far."""
        matches = sorted((self.directory / "root").glob(f"*/{step}/{name}"))
        return matches[-1] if matches else None

    @property
    def bundle(self) -> Path | None:
        """Path of the bundle that the run made; None where the gate refused or the run failed."""
        packaged = self.artifact("package", "bundle")
        return next(packaged.iterdir()) if packaged is not None else None


def run(
    package: Path, arguments: Mapping[str, Any], directory: Path, shown: Callable[[LocalRun], None] = lambda run: None
) -> LocalRun:
    """Run a compiled pipeline.

    Parameters
    ----------
    package : the compiled pipeline's YAML
    directory : this run's directory; it is made, and never cleared
    shown : called when a step starts, prints something or ends

    Returns
    -------
    LocalRun
        its `mistake` is the sentence of an error that the user can correct; empty where the run failed otherwise
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "arguments.json").write_text(json.dumps(dict(arguments), indent=1), "utf-8")
    state = LocalRun(directory)
    command = [sys.executable, "-u", "-m", "pipelines.local", str(package), str(directory)]
    with (
        state.log.open("wb", buffering=0) as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as child,
    ):
        assert child.stdout is not None
        started = time.monotonic()
        for line in _kept(child.stdout, log):
            started = _follow(state, line, started)
            shown(state)
    state.succeeded = child.returncode == 0
    return state


def _kept(lines: IO[str], log: RawIOBase) -> Iterator[str]:
    """Pass lines on, and write them to the log as long as the disk has room."""
    for line in lines:
        plain = _COLOUR.sub("", line)
        with suppress(OSError):
            log.write(plain.encode())
        yield plain


def _follow(state: LocalRun, line: str, started: float) -> float:
    """Read one line of kfp's log into the state; returns the moment at which the running step began."""
    if match := _STARTED.search(line):
        state.steps[match[1]] = Step(match[1], "running")
        return time.monotonic()
    if match := _FINISHED.search(line):
        step = state.steps.get(match[1], Step(match[1], "running"))
        outcome: Literal["done", "failed"] = "done" if match[2] == "SUCCESS" else "failed"
        state.steps[match[1]] = replace(step, state=outcome, seconds=time.monotonic() - started)
    elif match := MISTAKE.match(line):
        state.mistake = match["sentence"]
    elif match := _NOTE.match(line):
        running = next((step for step in state.steps.values() if step.state == "running"), None)
        if running:
            state.steps[running.name] = replace(running, note=match[1], seconds=time.monotonic() - started)
    elif _DISK_FULL.search(line) and not state.mistake:
        state.mistake = f"the disk is full while writing {state.directory}: free some space and run again"
    return started


def _main(package: str, directory: str) -> None:
    from kfp import components, local

    arguments = json.loads(Path(directory, "arguments.json").read_text("utf-8"))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(Path(directory, "root")))
    components.load_component_from_text(_without_waits(Path(package).read_text("utf-8")))(**arguments)
    # kfp leaves threads of its executors behind, which would keep the process alive.
    sys.stdout.flush()
    os._exit(0)


def _without_waits(package: str) -> str:
    """Drop retries and their waits, because here a step fails by a user's mistake and not by a lost node."""
    documents = list(yaml.safe_load_all(package))
    spec = documents[0]
    for dag in (spec["root"], *spec["components"].values()):
        for task in dag.get("dag", {}).get("tasks", {}).values():
            task.pop("retryPolicy", None)
    for executor in spec["deploymentSpec"]["executors"].values():
        executor["container"].pop("env", None)
    return yaml.safe_dump_all(documents)


if __name__ == "__main__":
    _main(*sys.argv[1:])
