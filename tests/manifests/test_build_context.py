"""What the images are built from has to pass .dockerignore."""

import re
from pathlib import Path

import pytest

from serving.app import MEMORY

ROOT = Path(__file__).resolve().parents[2]


ROOMS = ("components", "serving", "serving/drift", "serving/recommender", "serving/app", "serving/ui")


@pytest.mark.parametrize("dockerfile", [*(f"{room}/Dockerfile" for room in ROOMS), "components/spark.Dockerfile"])
def test_every_copied_path_is_in_the_context(dockerfile: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / dockerfile).read_text("utf-8"), re.MULTILINE)
    sources = {source for copy in copies for source in copy.split()}
    assert sources
    assert {source.partition("/")[0] for source in sources} <= allowed
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_pages_give_memory_back_in_their_image_as_on_a_laptop() -> None:
    text = (ROOT / "serving" / "app" / "Dockerfile").read_text("utf-8")
    assert [name for name, value in MEMORY.items() if f"    {name}={value} \\\n" not in text] == []
