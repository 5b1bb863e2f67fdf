"""The parts of a bundle that a watch needs: the reference to compare with, and the model to score with."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from offers.drift.examination import Reference
from offers.errors import BundleError
from offers.model.boosters import LIBRARIES, learner_in, read_booster
from offers.model.calibrator import Calibrator
from offers.model.encoder import Encoder
from offers.model.layer import Layer
from offers.model.propensity import PropensityModel

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Watched:
    """A bundle as the sidecar sees it."""

    reference: Reference
    model: PropensityModel

    @property
    def name(self) -> str:
        return self.reference.name

    def typed(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Give rows the types that the encoder expects; a category that it has never seen counts as missing."""
        return pd.DataFrame(
            {
                feature.name: rows[feature.name].astype(pd.CategoricalDtype(list(feature.values)))
                if feature.values
                else rows[feature.name].astype("float64")
                for feature in self.model.encoder.features
            }
        )


def load(path: Path) -> Watched:
    """Read reference and model, after checking their hashes and that the model still gives the reference its scores.

    Raises
    ------
    BundleError
        a file is missing or changed, or these libraries score differently from those that made the bundle
    """
    watched = Watched(Reference.of_bundle(path), _model(path))
    expected = watched.reference.propensity
    worst = float(np.max(np.abs(watched.model.propensity(watched.typed(watched.reference.frame)) - expected)))
    if worst > _TOLERANCE:
        raise BundleError(
            f"bundle {watched.name}: expected the reference's propensities again, got some that differ by {worst:.2g};"
            " it was made with other versions of the libraries"
        )
    return watched


def _model(path: Path) -> PropensityModel:
    learner = learner_in([file.name for file in path.iterdir()])
    booster = read_booster(learner, _verified(path, LIBRARIES[learner].file), path)
    encoder = Encoder.from_json(_verified(path, "encoder.json").decode())
    calibrator = Calibrator.from_json(_verified(path, "calibrator.json").decode())
    layer = Layer.from_json(_verified(path, "layer.json").decode()) if (path / "layer.json").exists() else None
    return PropensityModel(encoder, booster, calibrator, layer)


def _verified(path: Path, file: str) -> bytes:
    """A file's content, which has to be what the manifest says. `Reference.of_bundle` has read the manifest before."""
    expected = json.loads((path / "manifest.json").read_bytes())["files"].get(file)
    try:
        content = (path / file).read_bytes()
    except OSError as error:
        raise BundleError(f"bundle {path}: {file} can't be read ({error.strerror}): fetch the bundle again") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise BundleError(f"bundle {path}: {file} was changed: fetch the bundle again")
    return content
