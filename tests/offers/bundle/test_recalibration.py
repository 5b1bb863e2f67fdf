import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from offers.bundle import bundle as bundles
from offers.bundle import writing
from offers.bundle.recalibration import prequential_propensity, recalibrate, refit
from offers.contract.sections import Retraining
from offers.data.dataset import Dataset
from offers.errors import ContractError, DataError, GateError
from offers.evaluation import metrics
from offers.model.propensity import Calibrator
from offers.steps import training
from offers.steps.data import read_gold

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
    child = bundles.load(writing.write(tmp_path, shop_run.text, *made, lineage))
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


# A recalibration goes through the same steps and the same gate as a new model.


@pytest.fixture(scope="module")
def parent(shifted_run):
    return bundles.load(shifted_run.parent.bundle)


@pytest.fixture(scope="module")
def child(shifted_run):
    return bundles.load(shifted_run.child.bundle)


@pytest.fixture(scope="module")
def dataset(shifted_run, parent):
    return read_gold(shifted_run.child.gold, parent.contract)


@pytest.fixture(scope="module")
def scored(shifted_run):
    return pd.read_parquet(shifted_run.child.result / "predictions.parquet")


def test_the_new_bundle_names_its_parent_and_has_passed(parent, child):
    assert child.name != parent.name
    assert child.manifest.recalibration.parent == parent.name
    assert child.manifest.trained_rows == 3000
    assert child.manifest.data.rows == 4500
    assert child.manifest.parameters == parent.manifest.parameters
    assert child.verdict.passed
    assert [rule.rule for rule in child.verdict.rules] == [rule.rule for rule in parent.verdict.rules]
    assert child.evaluation.champion.champion == parent.name
    assert parent.name in (child.path / "model-card.md").read_text("utf-8")


def test_rows_to_come_are_scored_closer_to_the_truth(shifted_run, parent, child):
    rows, truth = shifted_run.sample.frame.iloc[4500:], shifted_run.sample.propensity[4500:]
    labels = rows["bought"].to_numpy(dtype=np.int8)
    before, after = (bundle.model.propensity(rows) for bundle in (parent, child))
    assert after.mean() == pytest.approx(truth.mean(), abs=0.05)
    assert before.mean() < truth.mean() - 0.15
    assert np.abs(after - truth).mean() < np.abs(before - truth).mean() * 0.7
    old, new = (metrics.score(labels, propensity, 0.1) for propensity in (before, after))
    assert new["ece"].value < old["ece"].value / 2
    assert new["log_loss"].value < old["log_loss"].value - 0.02
    assert new["auc"].value == pytest.approx(old["auc"].value, abs=1e-6)


def test_the_evaluation_sees_the_gain(child, scored):
    differences = child.evaluation.champion.differences
    assert differences["log_loss"].high < 0
    newest = scored[scored["row"] >= 3500]
    assert newest["propensity"].mean() == pytest.approx(newest["label"].mean(), abs=0.03)
    assert newest["champion"].mean() < newest["label"].mean() - 0.1


def test_rows_that_the_parent_has_learnt_are_scored_by_refits(parent, dataset, scored):
    seen = scored[scored["row"] < 3000]
    np.testing.assert_array_equal(seen["propensity"], seen["champion"])
    assert not np.allclose(seen["propensity"], parent.model.propensity(dataset.frame.iloc[seen["row"]]))


def test_the_parent_scores_the_first_newer_block_and_ranks_every_one(parent, dataset, scored):
    step = parent.contract.evaluation.refit_every
    margin = parent.model.margin(dataset.frame)
    for begin in range(3000, 4500, step):
        block = scored[(scored["row"] >= begin) & (scored["row"] < begin + step)]
        ranks = pd.Series(margin[block["row"]]).rank()
        np.testing.assert_array_equal(block["propensity"].rank(), ranks)
        np.testing.assert_array_equal(block["champion"].rank(), ranks)
        assert (block["propensity"] == block["champion"]).all() == (begin == 3000)


@pytest.mark.parametrize("at", [3260, 4000])
def test_later_labels_change_no_earlier_propensity(parent, dataset, scored, at):
    labels = dataset.labels.copy()
    labels[at:] = 1 - labels[at:]
    theirs, ours = scored["champion"].to_numpy(), scored["propensity"].to_numpy()
    got = prequential_propensity(parent, Dataset(dataset.frame, labels, dataset.periods), theirs)
    step, first = parent.contract.evaluation.refit_every, scored["row"].iloc[0]
    known = (at // step + 1) * step - first
    np.testing.assert_array_equal(got[:known], ours[:known])
    assert (got[known:] != ours[known:]).all()


def test_a_recalibrated_parent_does_not_profit_from_what_its_calibrator_has_learnt(child, dataset, scored):
    theirs = scored["champion"].to_numpy()
    np.testing.assert_array_equal(prequential_propensity(child, dataset, theirs), theirs)


def test_evaluated_on_few_rows_it_has_learnt_from_all_that_are_newer(parent, dataset, scored):
    newest = scored["champion"].to_numpy()[-700:]
    got = prequential_propensity(parent, dataset, newest)
    np.testing.assert_array_equal(got, scored["propensity"].to_numpy()[-700:])


@pytest.mark.parametrize("champion", ["", "child"])
def test_another_champion_than_the_parent_is_refused(shifted_run, settings, tmp_path, champion):
    run = shifted_run.child
    where = str(run.bundle) if champion else ""
    with pytest.raises(GateError, match=f"got {run.bundle.name if champion else 'none'}: name that one"):
        training.evaluate(run.text, run.gold, run.model, where, tmp_path, settings, lambda text: None)


def test_a_contract_with_other_inputs_is_refused(shifted_run, settings, tmp_path):
    run = shifted_run.child
    text = run.text.replace("values: [mail, phone, web]", "values: [mail, phone, web, fax]")
    with pytest.raises(ContractError, match="got others: train a new model"):
        training.recalibrate(text, run.gold, str(shifted_run.parent.bundle), tmp_path, settings, lambda text: None)
    assert list(tmp_path.iterdir()) == []
