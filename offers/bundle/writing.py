"""Writes bundles: whole or not at all, and verified before they are moved into place."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from offers.bundle.bundle import FORMAT, LAYER, load, typed
from offers.bundle.directory import MANIFEST, settle
from offers.bundle.location import name_of
from offers.bundle.manifest import Manifest
from offers.bundle.provenance import Origin, git_commit, libraries
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.data.dataset import Dataset
from offers.drift.reference import SCORE, WATCH, Watch, watch_json, watched_columns
from offers.evaluation.figures import Evaluation
from offers.evaluation.gate import GateVerdict
from offers.files import os_errors, sha256_of
from offers.model.boosters import learner_of, library_of
from offers.model.propensity import PropensityModel

GOLDEN_ROWS = 32
REFERENCE_ROWS = 30_000
NEWEST_ROWS = 40_000
EXPLAINED_ROWS = 1000


def write(
    parent: Path,
    contract_text: str,
    model: PropensityModel,
    dataset: Dataset,
    evaluation: Evaluation,
    verdict: GateVerdict,
    card: str,
    origin: Origin,
) -> Path:
    """Write a bundle below `parent`, whole or not at all, and verify it by loading it.

    Returns
    -------
    Path
        the bundle's directory; an existing bundle of that name is verified and left as it is

    Raises
    ------
    StorageError
        the directory can't be written
    """
    contract = contracts.parse(contract_text)
    with os_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
        try:
            for file, content in _contents(contract_text, model, evaluation, verdict, card).items():
                (partial / file).write_bytes(content)
            _write_samples(partial, contract, model, dataset)
            manifest = Manifest(
                format=FORMAT,
                contract=contract.name,
                files={path.name: sha256_of(path) for path in sorted(partial.iterdir())},
                data=origin.data,
                parameters=origin.parameters,
                libraries=libraries(learner_of(model.booster)),
                git_commit=git_commit(),
                update=origin.update,
            ).to_bytes()
            (partial / MANIFEST).write_bytes(manifest)
            return settle(partial, parent / name_of(manifest, contract.name), load)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def save_model(model: PropensityModel, path: Path) -> None:
    """Write encoder, booster, calibrator and, where there is one, the layer into a directory."""
    path.mkdir(parents=True, exist_ok=True)
    for file, content in model_files(model).items():
        (path / file).write_bytes(content)


def model_files(model: PropensityModel) -> dict[str, bytes]:
    library = library_of(model.booster)
    return {
        "encoder.json": model.encoder.to_json().encode(),
        library.file: library.dump(model.booster),
        "calibrator.json": model.calibrator.to_json().encode(),
        **({LAYER: model.layer.to_json().encode()} if model.layer else {}),
    }


def _contents(
    contract_text: str, model: PropensityModel, evaluation: Evaluation, verdict: GateVerdict, card: str
) -> Mapping[str, bytes]:
    return {
        "contract.yaml": contract_text.encode(),
        **model_files(model),
        "metrics.json": (evaluation.model_dump_json(indent=1) + "\n").encode(),
        "gate.json": (verdict.model_dump_json(indent=1) + "\n").encode(),
        "model-card.md": card.encode(),
    }


def _write_samples(path: Path, contract: Contract, model: PropensityModel, dataset: Dataset) -> None:
    """Write the drift reference, a sample spread evenly over the newest rows, and the golden rows."""
    spread = reference_places(len(dataset))
    names = [column.name for column in contract.inputs]
    reference = dataset.frame[names].iloc[spread].reset_index(drop=True)
    reference.assign(**{SCORE: model.propensity(reference)}).to_parquet(path / "reference.parquet", index=False)
    importance = model.importance(reference.iloc[evenly(len(reference), EXPLAINED_ROWS)])
    watch = watch_json(watched_columns(contract), Watch.of(contract), importance)
    (path / WATCH).write_text(watch, "utf-8")

    golden = evenly(len(dataset), GOLDEN_ROWS)
    rows = json.loads(dataset.frame[names].iloc[golden].to_json(orient="records", double_precision=15))
    propensity = model.propensity(typed(pd.DataFrame(rows), model.encoder))
    content = {"rows": rows, "propensity": [float(value) for value in propensity]}
    (path / "golden.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def reference_places(rows: int) -> np.ndarray:
    """Choose the reference rows of drift, spread evenly over the newest training rows; returns their places."""
    newest = np.arange(rows)[-NEWEST_ROWS:]
    return np.asarray(newest[evenly(len(newest), REFERENCE_ROWS)])


def evenly(rows: int, count: int) -> np.ndarray:
    """Choose up to `count` of `rows` rows, spread evenly from the first to the last; returns their places."""
    return np.unique(np.linspace(0, rows - 1, count).astype(int))
