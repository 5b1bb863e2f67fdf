"""The curves that Kubeflow's page shows."""

import numpy as np
import pandas as pd
import pytest

from offers.steps.curves import curves


@pytest.mark.parametrize("outcome", [0, 1])
def test_one_outcome_alone_has_a_confusion_matrix_and_no_curve(outcome: int) -> None:
    scored = pd.DataFrame({"label": np.full(20, outcome), "propensity": np.linspace(0, 1, 20)})
    drawn = curves(scored, 0.1)
    assert (drawn.false_positive, drawn.true_positive, drawn.thresholds) == ([], [], [])
    rows = [[0, 0], [0, 0]]
    rows[outcome] = [18, 2]
    assert drawn.confusion == rows


def test_points_of_a_curve_are_finite() -> None:
    drawn = curves(pd.DataFrame({"label": [0, 1, 0, 1], "propensity": [0.1, 0.9, 0.3, 0.2]}), 0.5)
    assert (drawn.false_positive[-1], drawn.true_positive[-1], max(drawn.thresholds)) == (1.0, 1.0, 1.0)
    assert drawn.confusion == [[1, 1], [1, 1]]
