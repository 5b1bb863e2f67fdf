"""The golden rows of a bundle: a few rows, each with the propensity that it must get wherever the bundle is loaded."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

TOLERANCE = 1e-6


def golden(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read a bundle's golden rows as a client would send them, and the propensity that each row must get."""
    content = json.loads((path / "golden.json").read_text("utf-8"))
    return pd.DataFrame(content["rows"]), np.array(content["propensity"])
