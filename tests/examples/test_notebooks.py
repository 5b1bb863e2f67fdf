"""The notebooks run from top to bottom and print what they show."""

import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.notebook import outputs, stored
from tests.support.runs import train_file

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NUMBER = re.compile(r"-?\d+\.\d+")


def test_first_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_file(tmp_path, (EXAMPLES / "store-card.yaml").read_text("utf-8"), Path("simulated"))
    monkeypatch.setenv("OFFERS_HOME", str(tmp_path))
    check("first-steps.ipynb", monkeypatch)


@pytest.mark.slow
def test_from_a_csv_to_an_approved_release_and_a_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    check("csv-to-campaign.ipynb", monkeypatch)


def check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a notebook, and hold what it prints against what its file shows."""
    monkeypatch.chdir(EXAMPLES.parent)
    notebook = json.loads((EXAMPLES / name).read_text("utf-8"))
    for printed, shown in zip(outputs(notebook), stored(notebook), strict=True):
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
        # The last digits depend on the processor.
        np.testing.assert_allclose(_numbers(printed), _numbers(shown), rtol=0.01, atol=0.011)


def _numbers(text: str) -> np.ndarray:
    return np.array(NUMBER.findall(text), np.float64)
