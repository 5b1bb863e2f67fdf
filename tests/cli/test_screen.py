"""What commands print is whole: on a narrow terminal, on a wide one, and in a log."""

import io
import os
import pty
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer import _coercion, _param_types, rich_utils
from typer.main import get_command
from typer.testing import CliRunner

from cli.main import app
from cli.screen import plain_table, width_of, wrap_help
from cli.usage import use_own_words

CLI = Path(__file__).parents[2] / "cli"
LONG = "a-catalogue-with-a-long-name-0123456789abcdef"


def _cells(width: int | None) -> str:
    output = io.StringIO()
    table = plain_table("release", "status", "catalogue")
    table.add_row(LONG, "approved", LONG)
    Console(file=output, width=width, soft_wrap=True).print(table)
    return output.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_table_cuts_a_word(width: int) -> None:
    shown = _cells(width)
    letters = sorted(re.sub(r"\s", "", shown))
    assert letters == sorted(f"releasestatuscatalogue{LONG}approved{LONG}")
    assert all(len(line) <= width for line in shown.splitlines())


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_the_help_of_no_command_is_cut_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Table", "_fix_linebreaks"):
        monkeypatch.setattr(rich_utils, name, getattr(rich_utils, name))
    wrap_help()
    for path in commands(get_command(app)):
        lines = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "60"}).output.splitlines()
        assert all(len(line) <= 60 and "…" not in line for line in lines), path
    assert "OFFERS_KUBEFLOW_" in CliRunner().invoke(app, ["pipeline", "list", "--help"], env={"COLUMNS": "60"}).output
    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "60"}).output
    assert "3 refused by the gate, a monitor that sees an alarm" in " ".join(told.split())
    assert " a \n" not in told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "--port", "abc"], "expected a whole number, got 'abc'"),
        (["serve", "--port", "70000"], "expected at most 65535, got '70000'"),
        (["pipeline", "run", "--trials", "-3"], "expected at least 0, got '-3'"),
    ],
)
def test_a_wrong_option_is_told_in_our_words(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_coercion, _param_types):
        monkeypatch.setattr(module, "get_error_msg", module.get_error_msg)
    use_own_words()
    refused = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert refused.exit_code == 2
    assert sentence in refused.output


def test_every_table_is_made_where_words_wrap() -> None:
    cutting = re.compile(r"(?<!plain_)\bTable\((?!title)")
    found = [
        f"{path.name}: {line.strip()}"
        for path in CLI.glob("*.py")
        for line in path.read_text().splitlines()
        if cutting.search(line) and path.name != "screen.py"
    ]
    assert found == []
    assert not [path.name for path in CLI.glob("*.py") if "no_wrap=True" in path.read_text()]


def test_a_log_is_wide_and_a_terminal_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as terminal:
        assert (width_of(io.StringIO()), width_of(terminal)) == (160, None)
    os.close(parent)
    monkeypatch.setenv("COLUMNS", "70")
    assert width_of(io.StringIO()) is None
