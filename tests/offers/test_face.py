"""The face of the library: what `import offers` hands out, and what it costs."""

import doctest
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import offers

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "tests" / "offers" / "bundle" / "version_0_1" / "store-card-eda7e222b4916b71"


def test_examples_hold() -> None:
    failed, attempted = doctest.testmod(offers, extraglobs={"path": BUNDLE})
    assert failed == 0
    assert attempted >= 10


@pytest.mark.parametrize("name", offers.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(offers, name) is not None
    assert name in dir(offers)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'offers' has no attribute 'load_model'"):
        offers.load_model  # noqa: B018


def test_importing_it_loads_nothing() -> None:
    script = "import sys; old = set(sys.modules); import offers; print(sorted(set(sys.modules) - old))"
    loaded = subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    standard = {name.partition(".")[0] for name in eval(loaded.stdout)} - {"offers"}
    assert standard <= set(sys.stdlib_module_names)
    assert "offers." not in loaded.stdout


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "offers/__init__.py"
    tags = {
        line.split()[-1]
        for folder in ("base", "overlays/aws")
        for line in (ROOT / "manifests" / folder / "kustomization.yaml").read_text("utf-8").splitlines()
        if "newTag:" in line
    }
    assert tags == {offers.__version__}
    assert f"\n## [{offers.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
