"""The sizes that a reader can hold in the head, and the platforms that the domain does not name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("offers", "deployment", "components", "pipelines", "serving", "cli", "benchmarks", "tests")
MODULE, CLASS, FUNCTION, PARAMETERS = 300, 200, 50, 8
PLATFORM = re.compile(r"kserve|\bv2\b|inferenceservice", re.IGNORECASE)


def modules(*rooms: str) -> Iterator[tuple[str, str]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def too_long(path: str, text: str) -> Iterator[str]:
    # A module of tests is a list of cases, which nobody reads as a whole.
    if text.count("\n") > MODULE and not Path(path).name.startswith("test_"):
        yield f"{path}: {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and lines(node) > CLASS:
            yield f"{path}: class {node.name} has {lines(node)} lines"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if lines(node) > FUNCTION:
                yield f"{path}: {node.name} has {lines(node)} lines"
            # The parameters of a command are its options.
            if parameters(node) > PARAMETERS and not path.startswith("cli/"):
                yield f"{path}: {node.name} has {parameters(node)} parameters"


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return sum(argument.arg not in ("self", "cls") for argument in every)


def test_nothing_is_longer_than_a_reader_can_hold() -> None:
    assert [excess for path, text in modules(*ROOMS) for excess in too_long(path, text)] == []


def test_the_domain_names_no_platform_of_serving() -> None:
    named = [f"{path}: {match[0]}" for path, text in modules("offers") for match in PLATFORM.finditer(text)]
    assert named == []


def test_what_tests_share_lies_in_support() -> None:
    borrowed = re.compile(r"from tests\.(?!support\b|e2e\b)\S+ import")
    assert [f"{path}: {match[0]}" for path, text in modules("tests") for match in borrowed.finditer(text)] == []


def test_what_is_too_long_is_noticed() -> None:
    body = "    pass\n" * (FUNCTION + 1)
    names = ", ".join(f"a{n}" for n in range(PARAMETERS + 1))
    assert list(too_long("offers/a.py", f"def f({names}):\n{body}")) == [
        f"offers/a.py: f has {FUNCTION + 2} lines",
        f"offers/a.py: f has {PARAMETERS + 1} parameters",
    ]
