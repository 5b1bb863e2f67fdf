"""What a protected group has no rows to measure by is not zero."""

from pathlib import Path

import numpy as np
import pandas as pd

from offers.contract import contract as contracts
from offers.data import table_file
from offers.data.validation import validate
from offers.evaluation.fairness import fairness

CASES = Path(__file__).parents[1] / "data" / "cases"


def test_the_recall_of_a_group_without_acceptances_is_not_measured() -> None:
    contract = contracts.load(str(CASES / "recall-zero.yaml"))
    typed = validate(table_file.read(CASES / "recall-zero.csv", contract, "rows"), contract).frame
    labels = typed["y"].to_numpy(int)
    assert labels[typed["g"] == "m"].sum() == 0
    (fair,) = fairness(typed, labels, np.linspace(0, 1, len(typed)), contract)
    recalls = {group.value: group.recall for group in fair.groups}
    assert recalls["m"] is None
    assert recalls["f"] is not None
    assert fair.without_recall == ("m",)
    assert fair.recall_difference is None


def test_the_precision_of_a_group_that_nobody_is_chosen_from_is_not_measured() -> None:
    contract = contracts.load(str(CASES / "recall-zero.yaml"))
    rows = pd.DataFrame({"g": ["f"] * 200 + ["m"] * 200})
    labels = np.tile([0, 1], 200)
    (fair,) = fairness(rows, labels, np.r_[np.full(200, 0.9), np.full(200, 0.1)], contract)
    assert {group.value: group.precision for group in fair.groups} == {"f": 0.5, "m": None}
    assert {group.value: group.recall for group in fair.groups} == {"f": 0.2, "m": 0.0}
    assert (fair.recall_difference, fair.without_recall) == (0.2, ())


def test_a_group_that_stands_alone_is_compared_with_none() -> None:
    contract = contracts.load(str(CASES / "recall-zero.yaml"))
    labels = np.tile([0, 1], 200)
    (fair,) = fairness(pd.DataFrame({"g": ["f"] * 400}), labels, np.full(400, 0.3), contract)
    assert (fair.selection_ratio, fair.recall_difference) == (None, None)
    assert fair.groups[0].recall == 0.1
