"""The model bundle: what training hands to serving. This module alone writes and reads one.

A bundle is a directory named `<contract>-<first 16 hex digits of the SHA-256 of its manifest>`. The manifest
holds the SHA-256 of every other file, so one changed byte anywhere is noticed. There is no code in a bundle.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from offers.bundle.directory import check_files, read_manifest
from offers.bundle.golden import TOLERANCE, golden
from offers.bundle.manifest import Manifest
from offers.bundle.provenance import libraries
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.errors import BundleError, ContractError
from offers.evaluation.figures import Evaluation
from offers.evaluation.gate import GateVerdict
from offers.model.boosters import LIBRARIES, learner_in, learner_of, read_booster
from offers.model.calibrator import Calibrator
from offers.model.encoder import Encoder
from offers.model.layer import Layer
from offers.model.propensity import PropensityModel

LAYER = "layer.json"
FORMAT, OLDEST_FORMAT = 3, 2
_NAME = re.compile(r"^[a-z][a-z0-9-]*-[0-9a-f]{16}$")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle in memory."""

    path: Path
    name: str
    manifest: Manifest
    contract: Contract
    model: PropensityModel

    @property
    def evidence(self) -> tuple[str, ...]:
        """The files by which people judge the bundle."""
        return "gate.json", "metrics.json", "model-card.md"

    @cached_property
    def evaluation(self) -> Evaluation:
        return Evaluation.model_validate_json((self.path / "metrics.json").read_text("utf-8"))

    @cached_property
    def verdict(self) -> GateVerdict:
        return GateVerdict.model_validate_json((self.path / "gate.json").read_text("utf-8"))


def is_name(text: str) -> bool:
    """Whether a text looks like a bundle's name."""
    return _NAME.match(text) is not None


def load(path: Path, expected: str = "") -> Bundle:
    """Load a bundle after checking every hash and reproducing its golden rows.

    Parameters
    ----------
    path : the bundle's directory
    expected : the name that the bundle must have; by default the directory's name, where that is a bundle's name

    Raises
    ------
    BundleError
        a file is missing or changed, or a golden row scores differently; the message says which
    """
    manifest, name = read_manifest(path, Manifest, OLDEST_FORMAT, FORMAT)
    expected = expected or (path.name if is_name(path.name) else "")
    if expected and name != expected:
        raise BundleError(f"bundle {path}: its manifest makes it {name}, expected {expected}: the manifest was changed")
    check_files(path, manifest.files)
    try:
        contract = contracts.parse((path / "contract.yaml").read_text("utf-8"), "contract.yaml")
    except (ContractError, UnicodeDecodeError) as error:
        raise BundleError(f"bundle {path}: its contract can't be read: {error}") from None
    model = load_model(path)
    bundle = Bundle(path, name, manifest, contract, model)
    _check_golden(bundle)
    return bundle


def load_model(path: Path) -> PropensityModel:
    """Read what `save_model` wrote."""
    learner = learner_in([file.name for file in path.iterdir()])
    booster = read_booster(learner, (path / LIBRARIES[learner].file).read_bytes(), path)
    layer = path / LAYER
    return PropensityModel(
        Encoder.from_json((path / "encoder.json").read_text("utf-8")),
        booster,
        Calibrator.from_json((path / "calibrator.json").read_text("utf-8")),
        Layer.from_json(layer.read_text("utf-8")) if layer.exists() else None,
    )


def typed(rows: pd.DataFrame, encoder: Encoder) -> pd.DataFrame:
    """Give plain rows (text, numbers, None) the types that the encoder expects."""
    return pd.DataFrame(
        {
            feature.name: rows[feature.name].astype(pd.CategoricalDtype(list(feature.values)))
            if feature.values
            else rows[feature.name].astype("float64")
            for feature in encoder.features
        }
    )


def _check_golden(bundle: Bundle) -> None:
    rows, expected = golden(bundle.path)
    propensity = bundle.model.propensity(typed(rows, bundle.model.encoder))
    worst = int(np.argmax(np.abs(propensity - expected)))
    if not np.allclose(propensity, expected, rtol=0, atol=TOLERANCE):
        here = libraries(learner_of(bundle.model.booster))
        differ = [
            f"{name} {version} (here {here[name]})"
            for name, version in bundle.manifest.libraries.items()
            if here.get(name) != version
        ]
        cause = (
            f"it was made with {', '.join(differ)}: install those"
            if differ
            else "the libraries are the same: train it again here"
        )
        raise BundleError(
            f"bundle {bundle.name}: golden row {worst + 1} scores {propensity[worst]:.6f},"
            f" expected {expected[worst]:.6f}; {cause}"
        )


def show(bundle: Bundle) -> dict[str, Any]:
    """Describe a bundle for people: facts by name, as text."""
    data, parameters = bundle.manifest.data, bundle.manifest.parameters
    return {
        "name": bundle.name,
        "contract": bundle.contract.title,
        "gate": "passed" if bundle.verdict.passed else "FAILED",
        "evaluated by": bundle.evaluation.scheme,
        **{name.replace("_", " "): str(figure) for name, figure in bundle.evaluation.model.figures.items()},
        "data": f"{data.rows} rows, {data.positives} positive, {data.first_period} to {data.last_period}",
        "updates": bundle.manifest.update.parent if bundle.manifest.update else "no other bundle",
        "source": data.origin,
        "data fingerprint": data.fingerprint,
        "parameters": str(parameters.model),
        "seed": str(parameters.seed),
        "search trials": str(parameters.trials),
        "calibration": str(bundle.model.calibrator),
        "layer": str(bundle.model.layer) if bundle.model.layer else "none",
        "libraries": ", ".join(f"{name} {version}" for name, version in bundle.manifest.libraries.items()),
        "git commit": bundle.manifest.git_commit,
    }
