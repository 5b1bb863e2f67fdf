"""The manifest of a bundle. Who reads it alone loads no model and none of the libraries that models need."""

import json

from offers.bundle.provenance import Parameters, Recalibration, TrainingData, Update
from offers.record import Record


class AbstractManifest(Record):
    """What the manifests of all kinds of bundles say; `contract` is the name of the contract or market."""

    format: int
    contract: str
    files: dict[str, str]
    libraries: dict[str, str]
    git_commit: str

    def to_bytes(self) -> bytes:
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


class Manifest(AbstractManifest):
    """A bundle's files with their SHA-256, and the origin of the model."""

    data: TrainingData
    parameters: Parameters
    recalibration: Recalibration | None = None
    update: Update | None = None

    @property
    def trained_rows(self) -> int:
        """Rows that the trees were trained on; the layer, or an old bundle's calibrator, may have seen more."""
        later = self.update or self.recalibration
        return later.trained_rows if later else self.data.rows

    @property
    def later_rows(self) -> int:
        """Rows after those of the trees, which the layer has learnt."""
        return self.data.rows - self.trained_rows
