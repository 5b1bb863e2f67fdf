"""The imports part of `make bench`: what each process loads before it does anything.

A step's imports are those of its component's body, and the unconditional ones of the function that it calls. The
table shows CPU time, which depends less on what else the machine does than the clock. `--beside DIRECTORY` also
measures another checkout, start by start in turn with this one and with this one's environments.
"""

import argparse
import ast
import importlib
import inspect
import json
import os
import statistics
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5
COMPONENTS = ("components.training", "components.monitoring", "components.deploy")
SERVICES = ("serving.predictor", "serving.ranker", "serving.drift")
SIDECAR_PYTHON = ROOT / ".venv-drift" / "bin" / "python"
PROBE = """
import sys, time
lines, begin = sys.stdin.read(), time.process_time()
exec(lines)
if sys.platform == "darwin":
    import resource
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
else:
    # `ru_maxrss` would count what the parent held when it forked.
    memory = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
print(time.process_time() - begin, len(sys.modules), memory)
"""


class Cost(NamedTuple):
    """Of one process's imports: CPU seconds, modules loaded, resident memory in MiB."""

    seconds: float
    modules: float
    memory: float


def main(material: object = None, beside: Path | None = None) -> None:
    from benchmarks.material import console, table

    checkouts = [ROOT] if beside is None else [ROOT, beside]
    imports = [imports_of_processes(checkout) for checkout in checkouts]
    headings = ["CPU s", "modules", "MiB"] + (["beside: CPU s", "modules", "MiB"] if beside else [])
    costs = table(f"Imports of each process: medians of {RUNS} starts", "process", *headings)
    for process in imports[0]:
        both = [
            (checkout, lines[process]) for checkout, lines in zip(checkouts, imports, strict=True) if process in lines
        ]
        runs = [[measure(checkout, process, lines) for checkout, lines in both] for _ in range(RUNS)]
        medians = [Cost(*map(statistics.median, zip(*of_one, strict=True))) for of_one in zip(*runs, strict=True)]
        costs.add_row(process, *(cell for cost in medians for cell in _cells(cost)))
    console.print(costs)


def imports_of_processes(checkout: Path) -> dict[str, str]:
    """The import lines of each step and service of a checkout, by name."""
    steps = json.loads(_run(checkout, sys.executable, str(Path(__file__).resolve()), "--list"))
    return steps | {service: f"import {service}.__main__" for service in SERVICES}


def measure(checkout: Path, process: str, lines: str) -> Cost:
    """Run the lines in a new process."""
    python = str(SIDECAR_PYTHON) if process == "serving.drift" else sys.executable
    return Cost(*map(float, _run(checkout, python, "-c", PROBE, lines=lines).split()))


def imports_of_components() -> dict[str, str]:
    """The import lines of each component, by its name."""
    modules = map(importlib.import_module, COMPONENTS)
    components = {
        name: component.python_func
        for module in modules
        for name, component in vars(module).items()
        if hasattr(component, "python_func")
    }
    return {name: "\n".join(_imports(function)) for name, function in components.items()}


def _imports(function: Callable[..., Any]) -> Iterator[str]:
    own, imported = list(_import_lines(function)), dict[str, Any]()
    yield from own
    exec("\n".join(own), imported)
    for node in ast.walk(_definition(function)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=called)) if inspect.ismodule(
                imported.get(name)
            ):
                yield from _import_lines(getattr(imported[name], called))


def _import_lines(function: Callable[..., Any]) -> Iterator[str]:
    """The imports that a function makes in any case; those within an `if` are left out."""
    body = _definition(function).body
    return (ast.unparse(line) for line in body if isinstance(line, ast.Import | ast.ImportFrom))


def _definition(function: Callable[..., Any]) -> ast.FunctionDef:
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(definition, ast.FunctionDef)
    return definition


def _cells(cost: Cost) -> tuple[str, str, str]:
    return f"{cost.seconds:.2f}", f"{cost.modules:.0f}", f"{cost.memory:.0f}"


def _run(checkout: Path, python: str, *arguments: str, lines: str = "") -> str:
    # -P: the folder of this file holds modules that are named as rooms are.
    command = [python, "-P", *arguments]
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.run(
        command, cwd=checkout, env=environment, input=lines, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m benchmarks.imports", description=__doc__)
    parser.add_argument("--beside", type=Path, help="another checkout of this repository")
    parser.add_argument("--list", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.list:
        print(json.dumps(imports_of_components()))
    else:
        main(beside=arguments.beside and arguments.beside.resolve())
