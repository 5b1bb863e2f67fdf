import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from offers import bundle as bundles
from offers.contract import Retraining
from offers.dataset import Dataset
from offers.errors import DataError
from offers.ingestion import read_gold
from offers.model import Calibrator
from offers.recalibration import recalibrate, refit

PARENT = Calibrator(0.8, -0.3)


def world(n_rows, slope, intercept, seed=0):
    """Margins of the parent's trees, and labels whose log-odds are the parent's, stretched and shifted."""
    generator = np.random.default_rng(seed)
    margin = generator.normal(-2, 1, n_rows)
    log_odds = slope * logit(PARENT(margin)) + intercept
    return margin, (generator.random(n_rows) < expit(log_odds)).astype(np.int8)


def test_finds_the_shift_and_the_slope_of_a_changed_world():
    margin, labels = world(400_000, 0.7, 1.2)
    found = refit(PARENT, margin, labels, Retraining(recalibration_rows=400_000, prior=1))
    assert found.slope == pytest.approx(0.7 * PARENT.slope, abs=0.02)
    assert found.intercept == pytest.approx(0.7 * PARENT.intercept + 1.2, abs=0.05)


def test_few_labels_move_the_level_and_leave_ranks_and_spread():
    margin, labels = world(300, 1.0, 1.5)
    found = refit(PARENT, margin, labels, Retraining(platt_labels=500, prior=1e-6))
    assert found.slope == PARENT.slope
    assert found(margin).sum() == pytest.approx(labels.sum(), abs=0.01)


def test_only_the_newest_labels_count():
    old, new = world(5000, 1.0, -2.0), world(500, 1.0, 2.0, seed=1)
    settings = Retraining(recalibration_rows=500)
    margin, labels = (np.concatenate(parts) for parts in zip(old, new, strict=True))
    assert refit(PARENT, margin, labels, settings) == refit(PARENT, *new, settings)


def test_the_prior_holds_the_parent_where_labels_are_few():
    margin, labels = world(60, 1.0, 0.0)
    labels[:] = 0
    weak, strong = (refit(PARENT, margin, labels, Retraining(prior=prior)) for prior in (0.1, 1e6))
    assert weak.intercept < PARENT.intercept - 1
    assert strong.intercept == pytest.approx(PARENT.intercept, abs=1e-3)


@pytest.mark.parametrize("outcome", [0, 1])
def test_one_outcome_alone_gives_a_finite_calibrator(outcome):
    margin, _ = world(600, 1.0, 0.0)
    found = refit(PARENT, margin, np.full(600, outcome), Retraining())
    assert np.isfinite([found.slope, found.intercept]).all()
    assert (found(margin) > PARENT(margin)).all() == bool(outcome)


def test_labels_as_promised_change_nothing_much():
    margin, labels = world(100_000, 1.0, 0.0)
    found = refit(PARENT, margin, labels, Retraining(recalibration_rows=100_000))
    np.testing.assert_allclose(found(margin), PARENT(margin), atol=0.01)


def followed(shop_run, n_rows, outcome):
    """The rows of the shop's bundle, and newer ones that all had one outcome."""
    contract = bundles.load(shop_run.bundle).contract
    rows = read_gold(shop_run.gold, contract)
    newer = rows.frame.iloc[:n_rows]
    labels = np.concatenate([rows.labels, np.full(n_rows, outcome, np.int8)])
    frame = pd.concat([rows.frame, newer], ignore_index=True).astype(rows.frame.dtypes)
    return Dataset(frame, labels, np.concatenate([rows.periods, rows.periods[-n_rows:]]))


def test_a_bundle_is_recalibrated_on_the_rows_that_came_after_it(shop_run, tmp_path):
    parent = bundles.load(shop_run.bundle)
    dataset = followed(shop_run, 600, outcome=1)
    found, lineage = recalibrate(parent, dataset)
    assert found.booster is parent.model.booster
    assert (found.propensity(dataset.frame) > parent.model.propensity(dataset.frame)).all()
    data = parent.manifest.data.model_copy(update={"rows": 3600, "fingerprint": dataset.fingerprint(parent.contract)})
    made = found, dataset, parent.evaluation, parent.verdict, "card", data, parent.manifest.parameters
    child = bundles.load(bundles.write(tmp_path, shop_run.text, *made, lineage))
    assert child.manifest.recalibration.parent == parent.name
    assert child.name != parent.name
    assert bundles.show(child)["recalibrates"] == parent.name
    # Its trees are the parent's, so the next recalibration learns from the same newer rows as this one.
    assert child.manifest.trained_rows == parent.manifest.trained_rows == 3000
    assert recalibrate(child, dataset)[1].trained_rows == 3000


def test_foreign_or_too_few_rows_are_refused(shop_run):
    parent = bundles.load(shop_run.bundle)
    with pytest.raises(DataError, match="got 99: wait for more labels"):
        recalibrate(parent, followed(shop_run, 99, outcome=1))
    dataset = followed(shop_run, 600, outcome=1)
    dataset.labels[0] = 1 - dataset.labels[0]
    with pytest.raises(DataError, match="begin with the 3000 rows"):
        recalibrate(parent, dataset)
