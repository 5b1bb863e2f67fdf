"""Which rows of a bundle's reference a catalogue's rules let pass, so that drift compares like with like."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from offers.drift.selection import encoded
from offers.policy.arbitration import Policy


@dataclass(frozen=True)
class Selection:
    """The rows of a bundle's reference that pass, as `offers.drift.selection` writes them."""

    bundle: str
    word: str


def select(policy: Policy, rows: pd.DataFrame) -> np.ndarray:
    """Whether the rules let the customer of each row have one offer at least, shape (n_rows,).

    Parameters
    ----------
    rows : customer and context columns of the contract, typed, as a bundle's reference has them
    """
    columns = {str(name): _plain(cells) for name, cells in rows.items()}
    return np.asarray(policy.pairing.stand(columns).eligible.any(axis=1))


def selection(policy: Policy, bundle: str, reference: Path) -> Selection:
    """Select from a bundle's reference, the file that its manifest names."""
    return Selection(bundle, encoded(select(policy, pd.read_parquet(reference))))


def _plain(cells: pd.Series) -> np.ndarray:
    """Words as object with None where missing, other types as float64 with NaN."""
    if cells.dtype in ("category", "object"):
        words = cells.to_numpy(object, copy=True)
        words[cells.isna()] = None
        return words
    return np.asarray(cells.to_numpy(np.float64, na_value=np.nan))
