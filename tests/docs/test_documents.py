"""What the documents promise: links lead somewhere, paths exist, README stays short and its Python lines run."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.main import app
from tests.support.warranties import WARRANTIES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
AT_THE_DOOR = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY", "CODE_OF_CONDUCT")]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
OUR_PATH = re.compile(
    r"`((?:offers|deployment|components|pipelines|serving|cli|tests|benchmarks|examples|manifests|docs)/[\w./-]+)`"
)
OF_KUBERNETES = re.compile(r"offers/(offers|[a-z]+-[a-z-]+)")
"""A name within the namespace `offers`."""
OUR_MODULE = re.compile(
    r"(?:from|import|python -m) ((?:offers|deployment|components|pipelines|serving|cli|tests|benchmarks)(?:\.\w+)+)"
)
TEXTS = (".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".html", ".ipynb", "Dockerfile", "Makefile")


def test_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 200


@pytest.mark.parametrize("document", [*AT_THE_DOOR, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in set(_anchors(target)), link


@pytest.mark.parametrize("document", [*AT_THE_DOOR, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_is_there(document: Path) -> None:
    """Neither a moved module nor a removed one is named any more; the changelog tells of the past as well."""
    if document.name != "CHANGELOG.md":
        paths = [path for path in OUR_PATH.findall(document.read_text("utf-8")) if not OF_KUBERNETES.fullmatch(path)]
        assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []


def test_every_module_that_is_named_is_there() -> None:
    """In code, its strings, manifests, workflows, templates and documents."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = [ROOT / name for name in tracked.split("\0") if name.endswith(TEXTS) and name != "CHANGELOG.md"]
    absent = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in texts
        if path.is_file()
        for module in OUR_MODULE.findall(path.read_text("utf-8"))
        if not _is_module(ROOT / module.replace(".", "/"))
    }
    assert absent == set()


def test_every_command_is_on_its_page() -> None:
    rows = [line for line in (DOCS / "commands.md").read_text("utf-8").splitlines() if line.startswith("| `offers ")]
    missing = [
        f"{name} {part}"
        for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
        for part in getattr(command, "commands", [""])
        if not any(_names(row, name, part) for row in rows)
    ]
    assert missing == []


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    assert sorted(_pages(navigation)) == [path.relative_to(DOCS).as_posix() for path in PAGES]


@pytest.mark.parametrize("document", ["README.md", "docs/library.md"])
def test_the_lines_of_the_library_run(
    document: str, shop_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "warranties.yaml").write_text(WARRANTIES, "utf-8")
    lines = (ROOT / document).read_text("utf-8").split("```python\n")[1].split("```")[0]
    assert len([line for line in lines.splitlines() if line and not line.startswith("#")]) <= 10
    lines = re.sub(r'"bank-marketing-[0-9a-f]{16}"', repr(str(shop_bundle)), lines)
    exec(lines.replace('"bank-marketing"', repr(str(tmp_path / "warranties.yaml"))), {})
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) == 10
    assert all(answer.startswith("[") for answer in answers)
    assert any("(" in answer for answer in answers)


def _names(row: str, command: str, part: str) -> bool:
    if not part:
        return re.search(rf"`(offers )?{command}[` ]", row) is not None
    return f"`offers {command} " in row and re.search(rf"[` ]{part}[` ]", row) is not None


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or path.is_dir()


def _anchors(document: Path) -> Iterator[str]:
    for heading in re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _pages(navigation: Any) -> Iterator[str]:
    if isinstance(navigation, str):
        yield navigation
    elif isinstance(navigation, dict):
        for value in navigation.values():
            yield from _pages(value)
    else:
        for entry in navigation:
            yield from _pages(entry)
