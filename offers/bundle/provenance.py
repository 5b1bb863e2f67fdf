"""Where a model comes from: its rows, and the parameters it was trained with."""

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from offers.contract.sections import ModelSettings
from offers.record import Record

_DISTRIBUTIONS = {
    "numpy": ("numpy",),
    "pandas": ("pandas",),
    "pyarrow": ("pyarrow",),
    "scikit-learn": ("scikit-learn",),
    "scipy": ("scipy",),
}
_LEARNERS = {
    "catboost": ("catboost",),
    "lightgbm": ("lightgbm",),
    "xgboost": ("xgboost-cpu", "xgboost"),
}


class Provenance(Record):
    """The source of the raw rows."""

    origin: str
    source_sha256: str | None
    rows: int


class TrainingData(Record):
    """The rows that the model was trained on. `fingerprint` is the SHA-256 of the encoded rows and their labels."""

    origin: str
    source_sha256: str | None
    fingerprint: str
    rows: int
    positives: int
    first_period: str
    last_period: str


class Parameters(Record):
    """The parameters of the training. `others` are the best settings of other learners that the search tried."""

    model: ModelSettings
    seed: int
    trials: int
    others: tuple[ModelSettings, ...] = ()


class Recalibration(Record):
    """The origin of a recalibrated model (version 0.1): the bundle of its trees, and their training rows."""

    parent: str
    trained_rows: int


class Update(Record):
    """The origin of an updated model: the bundle of its trees, their training rows, and the labels learnt since."""

    parent: str
    trained_rows: int
    labels: int


@dataclass(frozen=True)
class Origin:
    """The origin of a model as its manifest records it: rows, parameters, and for an updated model its parent."""

    data: TrainingData
    parameters: Parameters
    update: Update | None = None


@cache
def libraries(learner: str = "xgboost") -> dict[str, str]:
    """List the versions of the libraries that a score of a learner's trees depends on."""
    names = _DISTRIBUTIONS | {learner: _LEARNERS[learner]}
    return {name: version_of(*distributions) for name, distributions in names.items()}


@cache
def git_commit() -> str:
    """Find the commit of the running code: OFFERS_GIT_COMMIT where an image sets it, else git's, else 'unknown'."""
    if commit := os.environ.get("OFFERS_GIT_COMMIT"):
        return commit
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "unknown"

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def version_of(*distributions: str) -> str:
    """Find the version of the first of these distributions that is installed, else 'absent'."""
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "absent"
