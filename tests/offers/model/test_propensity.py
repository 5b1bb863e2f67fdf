from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import expit

from offers.contract.contract import Contract
from offers.contract.sections import ModelSettings
from offers.data.dataset import origin
from offers.data.validation import validate
from offers.evaluation.refits import rolling_propensity
from offers.model import propensity as model
from offers.model.calibrator import Platt
from offers.model.encoder import Encoder
from offers.model.propensity import margins
from offers.training.calibration import calibrate
from offers.training.learners import BoostedTrees, Logistic, out_of_fold_margins, out_of_time_margins, train

Encoded = tuple[pd.DataFrame, np.ndarray, np.ndarray]
KINDS = ("q", "q", "c")
SMALL = ModelSettings(trees=15, depth=3, learning_rate=0.3)
EDGES = [300, 400, 600]


def rows(n_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Encoded rows and labels whose log-odds move over time."""
    generator = np.random.default_rng(seed)
    matrix = np.column_stack([generator.normal(size=(n_rows, 2)), generator.integers(0, 4, n_rows)])
    matrix[generator.random(n_rows) < 0.05, 1] = np.nan
    drift = np.linspace(-1, 1, n_rows)
    labels = generator.random(n_rows) < expit(matrix[:, 0] * drift + (matrix[:, 2] == 1) - 1)
    return matrix.astype(np.float32), labels.astype(np.int8)


@pytest.fixture(scope="module")
def shop(shop_contract: Contract, shop_rows: Callable[..., pd.DataFrame]) -> Encoded:
    """Typed rows of the shop, encoded, with their labels."""
    frame = validate(shop_rows(1200), shop_contract).frame
    return frame, Encoder.of(shop_contract).encode(frame), frame["bought"].to_numpy(np.int8)


def plain(contract: Contract) -> Contract:
    """The contract without a layer, whose trees are calibrated by Platt scaling."""
    platt = contract.calibration.model_copy(update={"method": "platt"})
    return contract.without_layer.model_copy(update={"calibration": platt})


@pytest.mark.parametrize("learner", [BoostedTrees(SMALL, KINDS), Logistic(SMALL, KINDS)], ids=["trees", "logistic"])
def test_margin_of_a_block_is_that_of_a_fit_on_the_rows_before(learner: Any) -> None:
    matrix, labels = rows(800)
    found = out_of_time_margins(learner, matrix, labels, EDGES)
    assert np.isnan(found[:300]).all()
    for start, end in zip(EDGES, [*EDGES[1:], 800], strict=True):
        by_hand = learner.fit(matrix[:start], labels[:start])(matrix[start:end])
        np.testing.assert_array_equal(found[start:end], by_hand)


@pytest.mark.parametrize("learner", [BoostedTrees(SMALL, KINDS), Logistic(SMALL, KINDS)], ids=["trees", "logistic"])
@pytest.mark.parametrize(("first", "end"), [(300, 400), (400, 600), (600, 800)])
def test_labels_of_a_block_and_after_never_reach_its_margins(learner: Any, first: int, end: int) -> None:
    matrix, labels = rows(800)
    honest = out_of_time_margins(learner, matrix, labels, EDGES)
    generator = np.random.default_rng(5)
    shuffled, flipped, moved = labels.copy(), labels.copy(), matrix.copy()
    shuffled[first:] = generator.permutation(shuffled[first:])
    flipped[first:] = 1 - flipped[first:]
    moved[end:] = moved[end:][::-1]
    for other_matrix, other_labels in ((matrix, shuffled), (matrix, flipped), (moved, labels)):
        found = out_of_time_margins(learner, other_matrix, other_labels, EDGES)
        np.testing.assert_array_equal(found[:end], honest[:end])
        if end < 800:
            assert not np.array_equal(found[end:], honest[end:])


@pytest.mark.parametrize("changed", [600, 700, 1100])
def test_labels_of_a_block_and_after_never_reach_its_propensities(
    shop: Encoded, shop_contract: Contract, changed: int
) -> None:
    _, matrix, labels = shop
    learner = BoostedTrees(shop_contract.model, tuple(Encoder.of(shop_contract).feature_types))
    honest = rolling_propensity(learner, matrix, labels, shop_contract)
    flipped = labels.copy()
    flipped[changed:] = 1 - flipped[changed:]
    found = rolling_propensity(learner, matrix, flipped, shop_contract)
    until = changed + 100 - origin(shop_contract, len(labels))
    np.testing.assert_array_equal(found[:until], honest[:until])
    assert changed == 1100 or not np.array_equal(found[until:], honest[until:])


@pytest.mark.parametrize(
    ("n_rows", "alignment", "newest_rows", "begins"),
    [
        (1200, 0, None, [600, 900, 1100]),
        (1200, 37, None, [537, 637]),
        (420, 0, None, [210, 310]),
        (1200, 0, 500, [800]),
    ],
)
def test_rolling_is_what_training_anew_at_each_refit_gives(
    shop: Encoded, shop_contract: Contract, n_rows: int, alignment: int, newest_rows: int | None, begins: list[Any]
) -> None:
    frame, matrix, labels = shop
    frame, matrix, labels, shop_contract = frame.iloc[:n_rows], matrix[:n_rows], labels[:n_rows], plain(shop_contract)
    chosen = shop_contract.model.model_copy(update={"newest_rows": newest_rows})
    learner = BoostedTrees(chosen, tuple(Encoder.of(shop_contract).feature_types), seed=3)
    rolled = rolling_propensity(learner, matrix, labels, shop_contract, alignment)
    first = origin(shop_contract, n_rows)
    assert rolled.shape == (n_rows - first,)
    for begin in begins:
        trained = train(shop_contract, chosen, matrix[:begin], labels[:begin], seed=3)
        start, end = max(begin, first), begin + 100
        assert trained.calibrator != Platt()
        np.testing.assert_array_equal(rolled[start - first : end - first], trained.propensity(frame.iloc[start:end]))


def test_first_block_can_be_scored_before_any_calibration(shop: Encoded, shop_contract: Contract) -> None:
    _, matrix, labels = shop
    shop_contract = plain(shop_contract)
    learner = BoostedTrees(shop_contract.model, tuple(Encoder.of(shop_contract).feature_types))
    rolled = rolling_propensity(learner, matrix[:150], labels[:150], shop_contract)
    np.testing.assert_array_equal(rolled, expit(learner.fit(matrix[:75], labels[:75])(matrix[75:150]).astype(float)))


def test_margin_of_a_fold_is_that_of_a_fit_on_the_others() -> None:
    matrix, labels = rows(600)
    learner = BoostedTrees(SMALL, KINDS)
    margin, fold = out_of_fold_margins(learner, matrix, labels, folds=3, seed=1)
    assert np.bincount(fold).tolist() == [200, 200, 200]
    assert np.ptp([labels[fold == number].sum() for number in range(3)]) <= 1
    for number in range(3):
        by_hand = learner.fit(matrix[fold != number], labels[fold != number])(matrix[fold == number])
        np.testing.assert_array_equal(margin[fold == number], by_hand)


def test_progress_counts_the_blocks() -> None:
    matrix, labels = rows(500)
    told = []
    out_of_time_margins(
        BoostedTrees(SMALL, KINDS), matrix, labels, [200, 300, 400], done=lambda n, total: told.append((n, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_same_seed_gives_the_same_booster_and_another_seed_another() -> None:
    matrix, labels = rows(600)
    first, again, other = (
        bytes(BoostedTrees(SMALL, KINDS, seed).booster(matrix, labels).save_raw("ubj")) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_booster_does_not_depend_on_fits_beside_it() -> None:
    matrix, labels = rows(600)
    learner = BoostedTrees(SMALL, KINDS)
    alone = bytes(learner.booster(matrix, labels).save_raw("ubj"))
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(lambda _: bytes(learner.booster(matrix, labels).save_raw("ubj")), range(4)))
    assert beside == [alone] * 4


def test_workers_do_not_show() -> None:
    matrix, labels = rows(800)
    learner = BoostedTrees(SMALL, KINDS)
    one, two = (out_of_time_margins(learner, matrix, labels, EDGES, workers) for workers in (1, 2))
    np.testing.assert_array_equal(one, two)
    for one, two in zip(
        *(out_of_fold_margins(learner, matrix, labels, 3, 0, workers) for workers in (1, 2)), strict=True
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", [BoostedTrees, Logistic])
def test_newest_rows_are_all_that_is_learnt_from(kind: Any) -> None:
    matrix, labels = rows(900)
    limited = kind(SMALL.model_copy(update={"newest_rows": 500}), KINDS).fit(matrix, labels)(matrix)
    np.testing.assert_array_equal(limited, kind(SMALL, KINDS).fit(matrix[-500:], labels[-500:])(matrix))


@pytest.mark.parametrize("kind", [BoostedTrees, Logistic])
def test_learner_finds_what_drives_the_outcome(kind: Any) -> None:
    generator = np.random.default_rng(0)
    matrix = np.column_stack([generator.normal(size=(8000, 2)), generator.integers(0, 4, 8000)]).astype(np.float32)
    truth = 1.5 * matrix[:, 0] + 2.0 * (matrix[:, 2] == 1) - 1
    labels = (generator.random(8000) < expit(truth)).astype(np.int8)
    found = kind(ModelSettings(trees=100, depth=3, learning_rate=0.1, column_share=1), KINDS).fit(matrix, labels)
    assert np.corrcoef(found(matrix), truth)[0, 1] > 0.97


@pytest.mark.parametrize("kind", [BoostedTrees, Logistic])
@pytest.mark.parametrize("outcome", [0, 1])
def test_refit_that_knows_one_outcome_only_expects_it(kind: Any, outcome: int) -> None:
    matrix, _ = rows(300)
    found = kind(SMALL, KINDS).fit(matrix, np.full(300, outcome, np.int8))(matrix)
    assert np.ptp(found) == 0
    assert (expit(found[0]) > 0.99) == (outcome == 1)
    assert (expit(found[0]) < 0.01) == (outcome == 0)


def test_logistic_takes_missing_and_unseen_values() -> None:
    matrix, labels = rows(500)
    margin = Logistic(SMALL, KINDS).fit(matrix, labels)
    strange = np.array([[np.nan, np.nan, np.nan], [0, 0, 9]], np.float32)
    assert np.isfinite(margin(strange)).all()
    empty = matrix.copy()
    empty[:, 1] = np.nan
    assert np.isfinite(Logistic(SMALL, KINDS).fit(empty, labels)(strange)).all()


def test_model_scores_frames_and_tables_in_blocks_alike(
    shop: Encoded, shop_contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, matrix, labels = shop
    trained = train(shop_contract, shop_contract.model, matrix[:600], labels[:600])
    expected = expit(trained.layer.mixed(margins(trained.booster, matrix).astype(float), matrix))
    whole = trained.propensity(frame)
    np.testing.assert_array_equal(whole, expected)
    monkeypatch.setattr(model, "SCORING_BLOCK", 7)
    np.testing.assert_array_equal(trained.propensity(frame), expected)
    np.testing.assert_array_equal(trained.propensity(pa.Table.from_pandas(frame)), expected)
    assert trained.propensity(frame.iloc[:0]).shape == (0,)


def test_training_is_repeatable(shop: Encoded, shop_contract: Contract) -> None:
    _, matrix, labels = shop
    first, again = (train(shop_contract, shop_contract.model, matrix, labels, seed=4) for _ in range(2))
    assert first.layer.to_json() == again.layer.to_json()
    assert first.booster.save_raw("ubj") == again.booster.save_raw("ubj")


def test_without_time_the_calibrator_learns_from_folds(shop: Encoded, shop_contract: Contract) -> None:
    _, matrix, labels = shop
    contract = shop_contract.model_copy(update={"time": None})
    learner = BoostedTrees(contract.model, tuple(Encoder.of(contract).feature_types), seed=2)
    margin, _ = out_of_fold_margins(learner, matrix, labels, folds=3, seed=2)
    trained = train(contract, contract.model, matrix, labels, seed=2)
    assert trained.calibrator == calibrate(margin, labels, contract.calibration, ordered=False)
    assert bytes(trained.booster.save_raw("ubj")) == bytes(learner.booster(matrix, labels).save_raw("ubj"))
