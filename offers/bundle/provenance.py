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
    "xgboost": ("xgboost-cpu", "xgboost"),
}


class Provenance(Record):
    """Where raw rows came from."""

    origin: str
    source_sha256: str | None
    rows: int


class TrainingData(Record):
    """What the model was trained on. `fingerprint` is the SHA-256 of the encoded rows and their labels."""

    origin: str
    source_sha256: str | None
    fingerprint: str
    rows: int
    positives: int
    first_period: str
    last_period: str


class Parameters(Record):
    """What the model was trained with."""

    model: ModelSettings
    seed: int
    trials: int


class Recalibration(Record):
    """What a recalibrated model of version 0.1 comes from: the bundle with its trees, and the rows they learnt."""

    parent: str
    trained_rows: int


class Update(Record):
    """What an updated model comes from: the bundle with its trees, the rows of their training, the labels it added."""

    parent: str
    trained_rows: int
    labels: int


@dataclass(frozen=True)
class Origin:
    """All that a bundle's manifest tells of its model: rows, parameters, and for an updated model its parent."""

    data: TrainingData
    parameters: Parameters
    update: Update | None = None


@cache
def libraries() -> dict[str, str]:
    """Versions of the libraries that a score depends on."""
    return {name: _version(*distributions) for name, distributions in _DISTRIBUTIONS.items()}


@cache
def git_commit() -> str:
    """Commit of the running code: OFFERS_GIT_COMMIT where an image sets it, else asked of git, else 'unknown'."""
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


def _version(*distributions: str) -> str:
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "absent"
