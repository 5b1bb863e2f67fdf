"""Licences of all that is shipped, as docs/licences.md lists them; run it to write that page anew.

Run by an interpreter with a lock and a project it prints lines of its own environment alone.
"""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "licences.md"
PARTS = {
    "Services, steps and command line": (sys.executable, ROOT / "uv.lock", "offers"),
    "Drift sidecar": (
        str(ROOT / ".venv-drift" / "bin" / "python"),
        ROOT / "serving" / "drift" / "uv.lock",
        "offers-drift",
    ),
}
INSTALLED = ("app", "market")
"""Extras that `make setup` installs."""
HEAD = """\
# Licences of dependencies

Offers is under the Apache License 2.0. Below is what its images and its environment hold beside it, as the packages
state it. A test holds this page against the locks, and refuses licences of the GPL family, the Business Source License
and others that limit use. `python -m tests.support.licences` writes the page anew.
"""


def page() -> str:
    """Write the page from the locks and the environments."""
    parts = [HEAD]
    for title, (python, lock, project) in PARTS.items():
        command = [python, __file__, str(lock), project]
        rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        parts.append(f"## {title}\n\n| package | licence |\n|---|---|\n{rows}")
    return "\n".join(parts)


def _shipped(lock: Path, project: str) -> list[str]:
    """Names of all that a project needs to run, by its lock."""
    packages = {package["name"]: package for package in tomllib.loads(lock.read_text("utf-8"))["package"]}
    seen, left = (
        set[tuple[str, str]](),
        [(project, ""), *((project, extra) for extra in INSTALLED if project == "offers")],
    )
    while left:
        name, extra = left.pop()
        if (name, extra) not in seen:
            seen.add((name, extra))
            package = packages[name]
            needs = (
                package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
            )
            left += [(need["name"], part) for need in needs for part in ("", *need.get("extra", ()))]
    return sorted({name for name, _ in seen} - {project})


def _licence(name: str) -> str:
    stated = metadata(name)
    if expression := stated.get("License-Expression"):
        return str(expression)
    classified = [
        entry.rpartition(":: ")[2] for entry in stated.get_all("Classifier") or () if entry.startswith("License")
    ]
    text = (stated.get("License") or "").strip()
    return "; ".join(classified) or text.partition("\n")[0] or "not stated"


def _rows(lock: Path, project: str) -> Iterator[str]:
    for name in _shipped(lock, project):
        try:
            yield f"| {name} | {_licence(name)} |"
        except PackageNotFoundError:
            # For another operating system.
            continue


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print("\n".join(_rows(Path(sys.argv[1]), sys.argv[2])))
    else:
        PAGE.write_text(page(), "utf-8")
