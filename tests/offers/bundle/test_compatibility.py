"""A bundle that version 0.1 wrote, with the rows it was trained on: what is public of the format stays as it was."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from offers.bundle.bundle import load
from offers.bundle.directory import MANIFEST
from offers.bundle.manifest import Manifest
from offers.drift.reference import SCORE
from tests.support.runs import train_file

HERE = Path(__file__).parent / "version_0_1"
NAME = "store-card-eda7e222b4916b71"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


@pytest.fixture(scope="module")
def trained_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = (HERE / NAME / "contract.yaml").read_text("utf-8")
    return train_file(tmp_path_factory.mktemp("again"), text, HERE / "rows.csv").bundle


def text_of(bundle: Path, file: str) -> str:
    if file != "booster.ubj":
        return (bundle / file).read_text("utf-8")
    booster = xgb.Booster()
    booster.load_model(bytearray((bundle / file).read_bytes()))
    return booster.save_raw("json").decode()


def test_a_bundle_of_version_0_1_loads_and_verifies() -> None:
    bundle = load(HERE / NAME)
    assert bundle.name == NAME
    assert bundle.manifest.data.rows == 600
    assert bundle.verdict.passed
    assert bundle.evaluation.model["auc"].value == pytest.approx(0.737, abs=0.0005)


def test_its_content_says_which_bundle_it_is(trained_again: Path) -> None:
    """The same rows give the same fingerprint, parameters and files; the name differs only by where it was made."""
    old, new = (
        Manifest.model_validate_json((bundle / MANIFEST).read_bytes()) for bundle in (HERE / NAME, trained_again)
    )
    assert new.data.model_copy(update={"origin": old.data.origin}) == old.data
    assert new.parameters == old.parameters
    assert new.files.keys() >= old.files.keys()
    assert {new.files[file] for file in ("contract.yaml", "encoder.json")} <= set(old.files.values())


@pytest.mark.parametrize("file", ["calibrator.json", "gate.json", "golden.json", "metrics.json", "watch.json"])
def test_training_again_gives_the_same_form(trained_again: Path, file: str) -> None:
    """Since 0.1 a layer stands beside the trees of a contract with time order, so that numbers differ."""
    old, new = (json.loads(text_of(bundle, file)) for bundle in (HERE / NAME, trained_again))
    assert holds(new, old)


@pytest.mark.parametrize("file", ["booster.ubj", "contract.yaml", "encoder.json"])
def test_training_again_gives_the_same_content(trained_again: Path, file: str) -> None:
    """Byte for byte but for numbers, whose last digits depend on the processor."""
    old, new = (text_of(bundle, file) for bundle in (HERE / NAME, trained_again))
    assert NUMBER.sub("0", new) == NUMBER.sub("0", old)
    np.testing.assert_allclose(numbers(new), numbers(old), rtol=1e-6, atol=1e-9)


def test_training_again_gives_the_same_reference(trained_again: Path) -> None:
    old, new = (pd.read_parquet(bundle / "reference.parquet") for bundle in (HERE / NAME, trained_again))
    pd.testing.assert_frame_equal(new.drop(columns=SCORE), old.drop(columns=SCORE), rtol=1e-6)


def numbers(text: str) -> np.ndarray:
    return np.array(NUMBER.findall(text), np.float64)


def holds(new: Any, old: Any) -> bool:
    """Whether a reader of the old content finds its keys in the new one, which may have more."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and holds(new[key], value) for key, value in old.items())
    if isinstance(old, list):
        return isinstance(new, list) and all(map(holds, new[:1], old[:1]))
    return True
