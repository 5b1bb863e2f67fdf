import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offers.bundle import bundle as bundles
from offers.bundle import writing
from offers.bundle.directory import MANIFEST
from offers.bundle.golden import golden as golden_rows
from offers.drift.reference import SCORE
from offers.errors import BundleError, StorageError
from offers.model import propensity as model
from offers.settings import Settings
from offers.steps import training
from tests.support.runs import ShopRun


@pytest.fixture
def copy(shop_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop_bundle, tmp_path / shop_bundle.name))


def test_holds_what_serving_and_audit_need(shop_bundle: Path) -> None:
    assert {path.name for path in shop_bundle.iterdir()} == {
        "booster.ubj",
        "calibrator.json",
        "layer.json",
        "contract.yaml",
        "encoder.json",
        "gate.json",
        "golden.json",
        "manifest.json",
        "metrics.json",
        "model-card.md",
        "reference.parquet",
        "watch.json",
    }
    loaded = bundles.load(shop_bundle)
    assert loaded.name == shop_bundle.name
    assert loaded.evaluation.contract == loaded.verdict.contract == loaded.contract.name == "shop"
    assert loaded.manifest.libraries == bundles.libraries()
    assert loaded.manifest.data.rows == 3000


def test_no_leakage_column_is_in_it(shop_bundle: Path) -> None:
    assert "minutes" not in (shop_bundle / "encoder.json").read_text()
    assert "minutes" not in (shop_bundle / "golden.json").read_text()
    assert "minutes" not in pd.read_parquet(shop_bundle / "reference.parquet").columns


def test_reference_scores_are_the_models(shop_bundle: Path) -> None:
    reference = pd.read_parquet(shop_bundle / "reference.parquet")
    model = bundles.load(shop_bundle).model
    np.testing.assert_array_equal(reference.pop(SCORE), model.propensity(bundles.typed(reference, model.encoder)))


def test_reference_is_of_the_newest_rows() -> None:
    assert writing.reference_places(100).tolist() == list(range(100))
    places = writing.reference_places(100_000)
    assert (places[0], places[-1], len(places)) == (60_000, 99_999, writing.REFERENCE_ROWS)


def test_golden_rows_go_through_json_to_the_same_bits(shop_bundle: Path) -> None:
    rows, expected = golden_rows(shop_bundle)
    model = bundles.load(shop_bundle).model
    np.testing.assert_array_equal(model.propensity(bundles.typed(rows, model.encoder)), expected)
    assert len(rows) == writing.GOLDEN_ROWS


def test_every_flipped_byte_is_noticed(copy: Path) -> None:
    generator = np.random.default_rng(0)
    for file in sorted(copy.iterdir()):
        content = file.read_bytes()
        for place in generator.integers(0, len(content), 8):
            changed = bytearray(content)
            changed[place] ^= 1 << int(generator.integers(0, 8))
            file.write_bytes(changed)
            with pytest.raises(BundleError, match=r"changed|damaged"):
                bundles.load(copy)
        file.write_bytes(content)
    bundles.load(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "calibrator.json").unlink()
    with pytest.raises(BundleError, match=r"missing calibrator\.json"):
        bundles.load(copy)


def test_a_missing_manifest_makes_it_no_bundle(copy: Path) -> None:
    (copy / MANIFEST).unlink()
    with pytest.raises(BundleError, match="no bundle, or half of one"):
        bundles.load(copy)


def test_a_foreign_file_is_named(copy: Path) -> None:
    (copy / "extra.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"extra\.bin is not in the manifest"):
        bundles.load(copy)


@pytest.mark.parametrize(("version", "advice"), [(1, "an older version .* train it again"), (4, "a newer version")])
def test_another_version_is_named(copy: Path, version: int, advice: str) -> None:
    manifest = copy / MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"format": {bundles.FORMAT}', f'"format": {version}'))
    with pytest.raises(BundleError, match=advice):
        bundles.load(copy)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a directory, found nothing"):
        bundles.load(tmp_path / "shop-0123456789abcdef")


def test_a_mounted_bundle_without_its_name_is_checked_against_the_name_asked_for(copy: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "models"
    copy.rename(mounted)
    assert bundles.load(mounted, expected=copy.name).name == copy.name
    with pytest.raises(BundleError, match="expected shop-0000000000000000"):
        bundles.load(mounted, expected="shop-0000000000000000")


def test_a_library_that_scores_differently_is_refused_by_the_golden_rows(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What XGBoost 2.1 does with a model of 3.2: no error, another base score, so every margin is shifted.
    real = model.margins
    monkeypatch.setattr(model, "margins", lambda booster, matrix: real(booster, matrix) + 0.4)
    here = bundles.libraries() | {"xgboost": "2.1.4"}
    monkeypatch.setattr(bundles, "libraries", lambda learner="xgboost": here)
    with pytest.raises(BundleError, match=r"golden row \d+ scores .* made with .*xgboost 3\.2\.0 \(here 2\.1\.4\)"):
        bundles.load(copy)


def test_an_old_library_that_scores_the_same_is_accepted(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = bundles.libraries() | {"xgboost": "3.1.0"}
    monkeypatch.setattr(bundles, "libraries", lambda learner="xgboost": here)
    assert bundles.load(copy).name == copy.name


@pytest.mark.usefixtures("same_commit")
def test_same_inputs_same_name_in_another_process_and_place(shop_run: ShopRun, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(shop_run.csv, elsewhere)
    script = (
        "import sys; from pathlib import Path; from tests.support.runs import train_file\n"
        "print(train_file(Path(sys.argv[1]), Path(sys.argv[2]).read_text(), Path(sys.argv[3])).bundle.name)\n"
    )
    arguments = [str(path) for path in (tmp_path, shop_run.contract_file, elsewhere / shop_run.csv.name)]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == shop_run.bundle.name


def test_writing_the_same_bundle_again_changes_nothing(shop_run: ShopRun) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in shop_run.bundle.iterdir()}
    again = shop_run.package(shop_run.bundle.parent)
    assert again == shop_run.bundle.name
    assert {path.name: path.stat().st_mtime_ns for path in shop_run.bundle.iterdir()} == before
    assert [path.name for path in shop_run.bundle.parent.iterdir()] == [shop_run.bundle.name]


def test_another_seed_another_name(shop_run: ShopRun, tmp_path: Path) -> None:
    training.train(shop_run.text, shop_run.gold, tmp_path / "model", 0, 1, Settings(home=tmp_path), str)
    assert shop_run.package(tmp_path / "bundles", model=tmp_path / "model") != shop_run.bundle.name


def test_a_full_disk_leaves_nothing(shop_run: ShopRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(StorageError, match="the disk is full; make room and run again; earlier results are whole"):
        shop_run.package(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_half_bundle(shop_run: ShopRun, tmp_path: Path) -> None:
    """Kill the writer when its first file appears; what is left is hidden and is no bundle."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from offers.bundle import writing; from offers.steps import training; from offers.settings import Settings\n"
        "writing._write_samples = lambda *args: (print('half', flush=True), time.sleep(60))\n"
        "text, *paths, out = sys.argv[1:]\n"
        "candidate = training.Candidate(*map(Path, paths))\n"
        "training.package(Path(text).read_text(), candidate, Path(out), '', Settings())\n"
    )
    arguments = [shop_run.contract_file, shop_run.gold, shop_run.model, shop_run.result, shop_run.verdict, tmp_path]
    with subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        writer.send_signal(signal.SIGKILL)
    left = list(tmp_path.iterdir())
    assert [path.name.startswith(".partial-") for path in left] == [True]
    with pytest.raises(BundleError):
        bundles.load(left[0])
    assert shop_run.package(tmp_path) == shop_run.bundle.name
