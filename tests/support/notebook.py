"""Runs a notebook's cells without Jupyter; `python -m tests.support.notebook FILE` renews the outputs in the file."""

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def outputs(notebook: dict[str, Any]) -> list[str]:
    """What each code cell prints, in order; a cell's last expression is printed too, as Jupyter shows it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    return [_run(_text(cell), names) for cell in code_cells(notebook)]


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def stored(notebook: dict[str, Any]) -> list[str]:
    """The outputs that the file shows."""
    return ["".join(line for output in cell["outputs"] for line in output["text"]) for cell in code_cells(notebook)]


def renew(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    for number, (cell, text) in enumerate(zip(code_cells(notebook), outputs(notebook), strict=True), 1):
        lines = text.splitlines(keepends=True)
        cell["execution_count"] = number
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _run(source: str, names: dict[str, Any]) -> str:
    *statements, last = ast.parse(source).body
    if isinstance(last, ast.Expr):
        show = ast.Call(ast.Name("_show", ast.Load()), [last.value], [])
        last = ast.copy_location(ast.Expr(show), last)
    module = ast.fix_missing_locations(ast.Module([*statements, last], []))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        names["_show"] = _show
        exec(compile(module, "cell", "exec"), names)
    return printed.getvalue()


def _show(value: object) -> None:
    if value is not None:
        print(value)


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
