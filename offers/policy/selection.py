"""Select the rows of a bundle's reference that a catalogue's rules let pass, so that drift compares like with like."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from offers.drift.selection import encoded
from offers.policy.arbitration import Policy


@dataclass(frozen=True)
class Selection:
    """The rows of a bundle's reference that pass, encoded by `offers.drift.selection`."""

    bundle: str
    word: str


def select(policy: Policy, rows: pd.DataFrame) -> np.ndarray:
    """Mark the rows whose customer may have at least one offer by the rules, shape (n_rows,).

    Parameters
    ----------
    rows : customer and context columns of the contract, typed, as a bundle's reference has them
    """
    return np.asarray(policy.pairing.stand(plain_columns(rows)).eligible.any(axis=1))


def plain_columns(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Turn typed rows into columns as `Policy.expand` takes them."""
    return {str(name): _plain(cells) for name, cells in rows.items()}


def selection(policy: Policy, bundle: str, reference: Path) -> Selection:
    """Select from `reference`, the file of a bundle's reference rows."""
    return Selection(bundle, encoded(select(policy, pd.read_parquet(reference))))


def _plain(cells: pd.Series) -> np.ndarray:
    """Turn cells into words as object with None where missing, or into float64 with NaN for other types."""
    if cells.dtype in ("category", "object"):
        words = cells.to_numpy(object, copy=True)
        words[cells.isna()] = None
        return words
    return np.asarray(cells.to_numpy(np.float64, na_value=np.nan))
