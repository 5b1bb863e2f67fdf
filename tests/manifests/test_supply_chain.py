"""What others make, and how it is named: by commit, by digest, by licence."""

import re
import tomllib

import pytest

from tests.support import licences
from tests.support.licences import ROOT

_REFUSED = re.compile(r"GPL|GNU|BUSL|Business Source|SSPL|Elastic|Commons Clause|not stated|proprietary", re.IGNORECASE)
DOCKERFILES = (
    "serving/Dockerfile",
    "components/Dockerfile",
    "components/spark.Dockerfile",
    "serving/drift/Dockerfile",
    "serving/recommender/Dockerfile",
    "serving/app/Dockerfile",
    "serving/ui/Dockerfile",
)


@pytest.fixture(scope="module")
def page() -> str:
    return licences.page()


def test_page_lists_what_the_locks_hold(page: str) -> None:
    listed = licences.PAGE.read_text("utf-8")
    advice = "docs/licences.md is not that of the locks: `python -m tests.support.licences` writes it anew"
    assert listed.splitlines() == page.splitlines(), advice


def test_nothing_shipped_limits_its_use(page: str) -> None:
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) > 100
    assert [name.strip() for name, licence in rows if _REFUSED.search(licence)] == []
    assert ("alibi-detect", "Apache Software License") in {(name.strip(), licence.strip()) for name, licence in rows}


def test_actions_are_named_by_commit() -> None:
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    named = re.findall(r"uses: (.+)", text)
    assert len(named) > 20
    assert [use for use in named if not re.fullmatch(r"\./\S+|[\w./-]+@[0-9a-f]{40} # v[0-9.]+", use)] == []


def test_images_start_from_one_digest() -> None:
    bases = {
        line for file in DOCKERFILES for line in (ROOT / file).read_text("utf-8").splitlines() if "ARG BASE" in line
    }
    assert len(bases) == 1
    assert re.fullmatch(r"ARG BASE=python:3\.11-slim@sha256:[0-9a-f]{64}", bases.pop())


def test_sidecar_holds_no_library_for_pictures() -> None:
    lock = tomllib.loads((ROOT / "serving" / "drift" / "uv.lock").read_text("utf-8"))
    assert {"pillow", "opencv-python", "matplotlib"}.isdisjoint(package["name"] for package in lock["package"])
