"""What a data set's size changes: how rows reach the trees, and how often models are refitted."""

from enum import Enum

from offers.contract.contract import Contract
from offers.contract.sections import ModelSettings

WHOLE_BYTES, BLOCK_BYTES = 2**28, 2**30
"""Sizes of the encoded matrix, 4 bytes a cell, up to which it is held whole, and up to which its bins are.

Bins with missing cells are held up to the smaller one. They are fixed, so that a model does not depend on the machine.
"""
REFITTED_ROWS = 50_000_000
"""Rows that the refits of one evaluation may see in all."""
BASELINE_ROWS, SPLIT_ROWS = 200_000, 1_000_000
"""Rows that a fit of the logistic baseline may see, and rows of the random split beside a time order."""


class Form(Enum):
    """How rows reach the trees: as one matrix, as bins made of blocks of rows, or as bins in files."""

    WHOLE = "one matrix"
    BLOCKS = "bins in memory, made block by block"
    EXTERNAL = "bins in external memory"


def form_of(contract: Contract, settings: ModelSettings, n_rows: int, has_missing: bool) -> Form:
    """Choose the form by the size of the encoded matrix: of all rows, and then of those that the trees learn.

    Only XGBoost reads blocks, and only a time order tells which rows calibrate a model that can't be fitted often.
    Where a single cell is missing, XGBoost's bins take three times the memory: 260 bytes a row of 19 columns in place
    of 85.
    """
    width = len(contract.inputs) * 4
    if n_rows * width <= WHOLE_BYTES or settings.learner != "xgboost" or contract.time is None:
        return Form.WHOLE
    learnt, most = min(n_rows, settings.newest_rows or n_rows), WHOLE_BYTES if has_missing else BLOCK_BYTES
    return Form.BLOCKS if learnt * width <= most else Form.EXTERNAL


def fits_at_once(contract: Contract, settings: ModelSettings, n_rows: int) -> int:
    """Say how many fits on rows of these may run side by side: one where it sees more than `WHOLE_BYTES`, else two."""
    learnt = min(n_rows, settings.newest_rows or n_rows)
    return 1 if learnt * len(contract.inputs) * 4 > WHOLE_BYTES else 2


def spread(n_rows: int, most: int) -> slice:
    """Choose at most so many rows, evenly spread: every row, every second one, and so on."""
    return slice(None, None, -(-n_rows // most))


def affordable(contract: Contract, n_rows: int) -> Contract:
    """Spread refits out where the contract's would see more than `REFITTED_ROWS` rows in all; one a window at least.

    Returns
    -------
    Contract
        the same one where its refits are affordable
    """
    if contract.time is None:
        return contract
    first = int(n_rows * contract.evaluation.train_share)
    mean = (first + n_rows) // 2
    scored, seen_by_each = n_rows - first, min(mean, contract.model.newest_rows or mean)
    most = max(contract.evaluation.windows, REFITTED_ROWS // max(seen_by_each, 1))
    step = -(-scored // most)
    if step <= contract.evaluation.refit_every:
        return contract
    return contract.model_copy(update={"evaluation": contract.evaluation.model_copy(update={"refit_every": step})})
