from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offers.bundle import bundle as bundles
from offers.bundle import writing
from offers.bundle.bundle import Bundle
from offers.bundle.provenance import Origin
from offers.bundle.update import changes, label_lag, prequential_propensity, update
from offers.data.dataset import Dataset
from offers.errors import ContractError, DataError, GateError
from offers.evaluation import metrics
from offers.settings import Settings
from offers.steps import training
from offers.steps.data import read_gold
from tests.support.runs import ShiftedRun, ShopRun


def followed(shop_run: ShopRun, n_rows: int) -> Dataset:
    """The rows of the shop's bundle, and newer ones of which nearly all were accepted."""
    contract = bundles.load(shop_run.bundle).contract
    rows = read_gold(shop_run.gold, contract)
    newer = rows.frame.iloc[:n_rows]
    accepted = (np.random.default_rng(0).random(n_rows) < 0.95).astype(np.int8)
    labels = np.concatenate([rows.labels, accepted])
    frame = pd.concat([rows.frame, newer], ignore_index=True).astype(rows.frame.dtypes)
    return Dataset(frame, labels, np.concatenate([rows.periods, rows.periods[-n_rows:]]))


def test_a_bundle_is_updated_by_the_rows_that_came_after_it(shop_run: ShopRun, tmp_path: Path) -> None:
    parent = bundles.load(shop_run.bundle)
    dataset = followed(shop_run, 600)
    model, lineage = update(parent, dataset, lag=40)
    assert model.booster is parent.model.booster
    assert (model.propensity(dataset.frame) > parent.model.propensity(dataset.frame)).all()
    assert (model.layer.labels, model.layer.lag) == (3600, 40)
    data = parent.manifest.data.model_copy(update={"rows": 3600, "fingerprint": dataset.fingerprint(parent.contract)})
    content = (
        model,
        dataset,
        parent.evaluation,
        parent.verdict,
        "card",
        Origin(data, parent.manifest.parameters, lineage),
    )
    child = bundles.load(writing.write(tmp_path, shop_run.text, *content))
    assert child.manifest.update.parent == parent.name
    assert child.manifest.update.labels == 600
    assert child.name != parent.name
    assert bundles.show(child)["updates"] == parent.name
    np.testing.assert_allclose(child.model.propensity(dataset.frame), model.propensity(dataset.frame), atol=1e-9)
    # Its trees are the parent's; its layer goes on from where it is.
    assert child.manifest.trained_rows == parent.manifest.trained_rows == 3000
    with pytest.raises(DataError, match="got 0: wait for more"):
        update(child, dataset)


def test_after_a_year_without_labels_the_trees_answer_alone_and_the_report_says_so(shop_run: ShopRun) -> None:
    parent = bundles.load(shop_run.bundle)
    dataset = followed(shop_run, 600)
    # At 200 rows a day.
    model, _ = update(parent, dataset, lag=365 * 200)
    trees = replace(model, layer=None).propensity(dataset.frame)
    assert (model.layer.share, model.layer.shift) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    np.testing.assert_allclose(model.propensity(dataset.frame), trees, atol=1e-6)
    assert "that is too late, so the trees answer alone" in changes(parent, model, dataset)[0].after
    assert "alone" not in str(parent.model.layer)


def test_labels_are_as_late_as_the_contract_says_at_the_pace_of_the_newest_whole_month(shop_run: ShopRun) -> None:
    contract = bundles.load(shop_run.bundle).contract
    late = contract.model_copy(update={"target": contract.target.model_copy(update={"matures_after_days": 31})})
    # April has 30 days; May has not ended.
    periods = np.repeat(["2024-03", "2024-04", "2024-05"], [900, 300, 10])
    assert (label_lag(contract, periods), label_lag(late, periods), label_lag(late, periods[-10:])) == (0, 310, 10)


def test_the_report_of_an_update_tells_what_it_changed(shifted_run: ShiftedRun) -> None:
    """Acceptance has risen: so have the propensities, and the layer has learnt 1 500 labels more."""
    evaluation = bundles.load(shifted_run.child.bundle).evaluation
    layer, mean, *columns = evaluation.changes
    assert "3000 labels learnt" in layer.before
    assert "4500 labels learnt" in layer.after
    assert float(mean.before.rstrip("%")) < float(mean.after.rstrip("%")) - 10
    assert len(columns) == 5
    page = (shifted_run.child.directory / "report.html").read_text("utf-8")
    assert page.index('id="what-the-update-changed"') < page.index("4500 labels learnt")
    assert "what-the-update-changed" not in (shifted_run.parent.directory / "report.html").read_text("utf-8")


def test_a_verdict_counts_labels_since_the_trees_were_trained(shifted_run: ShiftedRun) -> None:
    parent, child = (bundles.load(run.bundle).manifest for run in (shifted_run.parent, shifted_run.child))
    assert (parent.later_rows, child.later_rows) == (0, 1500)


def test_a_bundle_without_a_layer_gets_one_that_knows_its_rows(shop_run: ShopRun) -> None:
    parent = bundles.load(shop_run.bundle)
    bare = replace(parent, model=replace(parent.model, layer=None))
    dataset = followed(shop_run, 600)
    expected, ours = (update(bundle, dataset)[0] for bundle in (parent, bare))
    assert ours.layer.labels == 3600
    np.testing.assert_allclose(ours.propensity(dataset.frame), expected.propensity(dataset.frame), atol=1e-9)


def test_foreign_or_too_few_rows_are_refused(shop_run: ShopRun) -> None:
    parent = bundles.load(shop_run.bundle)
    with pytest.raises(DataError, match="got 199: wait for more"):
        update(parent, followed(shop_run, 199))
    dataset = followed(shop_run, 600)
    dataset.labels[0] = 1 - dataset.labels[0]
    with pytest.raises(DataError, match="begin with the 3000 rows"):
        update(parent, dataset)


def test_a_contract_without_a_layer_has_nothing_to_update(shop_run: ShopRun) -> None:
    parent = bundles.load(shop_run.bundle)
    dynamics = parent.contract.dynamics.model_copy(update={"share": 0})
    bare = replace(parent, contract=parent.contract.model_copy(update={"dynamics": dynamics}))
    with pytest.raises(DataError, match="does without a layer"):
        update(bare, followed(shop_run, 600))


# An update goes through the same steps as a new model, and meets its parent.


@pytest.fixture(scope="module")
def parent(shifted_run: ShiftedRun) -> Bundle:
    return bundles.load(shifted_run.parent.bundle)


@pytest.fixture(scope="module")
def child(shifted_run: ShiftedRun) -> Bundle:
    return bundles.load(shifted_run.child.bundle)


@pytest.fixture(scope="module")
def dataset(shifted_run: ShiftedRun, parent: Bundle) -> Dataset:
    return read_gold(shifted_run.child.gold, parent.contract)


@pytest.fixture(scope="module")
def scored(shifted_run: ShiftedRun) -> pd.DataFrame:
    return pd.read_parquet(shifted_run.child.result / "predictions.parquet")


def test_the_new_bundle_names_its_parent_and_has_passed(parent: Bundle, child: Bundle) -> None:
    assert child.name != parent.name
    assert child.manifest.update.parent == parent.name
    assert child.manifest.trained_rows == 3000
    assert child.manifest.data.rows == 4500
    assert child.manifest.parameters == parent.manifest.parameters
    assert child.verdict.passed
    assert child.evaluation.champion.champion == parent.name
    assert parent.name in (child.path / "model-card.md").read_text("utf-8")


def test_rows_to_come_are_scored_closer_to_the_truth(shifted_run: ShiftedRun, parent: Bundle, child: Bundle) -> None:
    rows, truth = shifted_run.sample.frame.iloc[4500:], shifted_run.sample.propensity[4500:]
    labels = rows["bought"].to_numpy(dtype=np.int8)
    before, after = (bundle.model.propensity(rows) for bundle in (parent, child))
    assert before.mean() < truth.mean() - 0.15
    # The trees keep half of the margin, so an update mends half of the level at least.
    assert abs(after.mean() - truth.mean()) < abs(before.mean() - truth.mean()) * 0.6
    assert np.abs(after - truth).mean() < np.abs(before - truth).mean() * 0.7
    old, new = (metrics.score(labels, propensity, 0.1) for propensity in (before, after))
    assert new["log_loss"].value < old["log_loss"].value - 0.02


def test_the_evaluation_sees_the_gain(child: Bundle, scored: pd.DataFrame) -> None:
    assert scored["row"].tolist() == list(range(3000, 4500))
    assert child.evaluation.champion.differences["log_loss"].high < 0


def test_the_parent_scores_the_first_newer_batch(parent: Bundle, dataset: Dataset, scored: pd.DataFrame) -> None:
    expected = parent.model.propensity(dataset.frame.iloc[3000:])
    np.testing.assert_allclose(scored["champion"], expected)
    np.testing.assert_allclose(scored["propensity"][:250], expected[:250])
    assert (scored["propensity"][250:] != expected[250:]).all()


@pytest.mark.parametrize("at", [3260, 4000])
def test_later_labels_change_no_earlier_propensity(
    parent: Bundle, dataset: Dataset, scored: pd.DataFrame, at: int
) -> None:
    labels, ours = dataset.labels.copy(), scored["propensity"].to_numpy()
    labels[at:] = 1 - labels[at:]
    theirs = prequential_propensity(parent, Dataset(dataset.frame, labels, dataset.periods))
    known = (at // 250 + 1) * 250 - 3000
    np.testing.assert_array_equal(theirs[:known], ours[:known])
    assert (theirs[known:] != ours[known:]).all()


@pytest.mark.parametrize("champion", ["", "child"])
def test_another_champion_than_the_parent_is_refused(
    shifted_run: ShiftedRun, settings: Settings, tmp_path: Path, champion: str
) -> None:
    run = shifted_run.child
    where = str(run.bundle) if champion else ""
    with pytest.raises(GateError, match=f"got {run.bundle.name if champion else 'none'}: name that one"):
        training.evaluate(run.text, run.gold, run.model, where, tmp_path, settings, lambda text: None)


def test_a_contract_with_other_inputs_is_refused(shifted_run: ShiftedRun, settings: Settings, tmp_path: Path) -> None:
    run = shifted_run.child
    text = run.text.replace("values: [mail, phone, web]", "values: [mail, phone, web, fax]")
    with pytest.raises(ContractError, match="train a new model"):
        training.update(text, run.gold, str(shifted_run.parent.bundle), 0, tmp_path, settings, lambda text: None)
    assert list(tmp_path.iterdir()) == []
