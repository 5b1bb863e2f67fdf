import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from offers.errors import BundleError
from offers.model.design import Design
from offers.model.layer import Layer, Walk, Walks

SLOTS = (3, 0, 2)
STILL = Walks(fast=Walk(1e-6, 1e9), slow=Walk(2.0, 1e12), columns=Walk(1.0, 1e12))


def rows(n_rows: int, level: float = -1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Encoded rows, some cells missing, and labels by a linear truth."""
    generator = np.random.default_rng(seed)
    matrix = np.column_stack(
        [generator.integers(0, 3, n_rows), generator.normal(50, 10, n_rows), generator.integers(0, 2, n_rows)]
    ).astype(np.float32)
    truth = level + 1.2 * (matrix[:, 0] == 2) - 0.8 * (matrix[:, 1] - 50) / 10
    labels = (generator.random(n_rows) < expit(truth)).astype(np.int8)
    matrix[generator.random(n_rows) < 0.1, 1] = np.nan
    matrix[generator.random(n_rows) < 0.1, 0] = np.nan
    return matrix, labels


@pytest.fixture(scope="module")
def layer() -> Layer:
    matrix, labels = rows(4000)
    return Layer.new(matrix, SLOTS).learn(matrix, labels)


def test_tables_score_as_the_design_does(layer: Layer) -> None:
    matrix, _ = rows(500, seed=1)
    weights = np.random.default_rng(2).normal(size=len(layer.design))
    additive = layer.design.additive(weights)
    expected = layer.design.matrix(matrix) @ weights
    np.testing.assert_allclose(additive(matrix), expected, atol=1e-12)
    np.testing.assert_allclose(additive.parts(matrix).sum(axis=1), expected, atol=1e-12)


def test_inputs_are_centred_where_the_design_was_made() -> None:
    matrix, _ = rows(3000)
    inputs = Design.of(matrix, SLOTS).matrix(matrix)
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=0.01)
    far = np.array([[np.nan, 1e9, 1]], np.float32)
    assert np.abs(Design.of(matrix, SLOTS).matrix(far)).max() <= 3


def test_one_batch_is_the_mode_of_the_posterior() -> None:
    matrix, labels = rows(300)
    walks = Walks(Walk(0.5, 1e12), Walk(2.0, 1e12), Walk(0.3, 1e12), batch=300)
    learnt = Layer.new(matrix, SLOTS, walks).learn(matrix, labels)
    inputs = np.hstack([np.ones((300, 2)), learnt.design.matrix(matrix)])
    spreads = np.array([0.5, 2.0, *[0.3] * len(learnt.design)])

    def loss(weights: np.ndarray) -> float:
        margin = inputs @ weights
        return float(np.logaddexp(0, margin).sum() - labels @ margin + ((weights / spreads) ** 2).sum() / 2)

    expected = minimize(loss, np.zeros(len(spreads)), method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(learnt.mean, expected, atol=1e-3)


def test_a_still_world_is_learnt_to_the_truth() -> None:
    matrix, labels = rows(60_000)
    learnt = Layer.new(matrix, SLOTS, STILL).learn(matrix, labels)
    seen = ~np.isnan(matrix).any(axis=1)
    truth = -1.0 + 1.2 * (matrix[:, 0] == 2) - 0.8 * np.clip((matrix[:, 1] - 50) / 10, -3, 3)
    assert np.abs(expit(learnt.margin(matrix)) - expit(truth))[seen].mean() < 0.02


def test_a_level_that_moves_is_followed_within_two_batches(layer: Layer) -> None:
    matrix, labels = rows(500, level=1.0, seed=3)
    trees = np.full(500, -1.0)
    before = expit(layer.margin(matrix)).mean()
    after = expit(layer.learn(matrix, labels, trees).margin(matrix)).mean()
    assert before < labels.mean() - 0.2
    assert after == pytest.approx(labels.mean(), abs=0.08)


def test_updates_in_parts_are_the_same_as_in_one(layer: Layer) -> None:
    matrix, labels = rows(1000, seed=4)
    parts = layer.learn(matrix[:500], labels[:500]).learn(matrix[500:], labels[500:])
    np.testing.assert_array_equal(parts.mean, layer.learn(matrix, labels).mean)


def test_late_labels_age_the_state_to_nothing(layer: Layer) -> None:
    matrix, labels = rows(250, seed=5)
    trees = np.linspace(-3, 1, 250)
    late = [layer.learn(matrix, labels, lag=lag) for lag in (0, 2000, 10**6)]
    assert late[0].share > late[1].share > late[2].share
    assert late[2].share == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(late[2].mixed(trees, matrix), trees, atol=1e-9)


@pytest.mark.parametrize("outcome", [0, 1])
def test_labels_of_one_class_leave_finite_margins(layer: Layer, outcome: int) -> None:
    matrix, _ = rows(2000, seed=6)
    learnt = layer.learn(matrix, np.full(2000, outcome))
    assert np.isfinite(learnt.margin(matrix)).all()
    assert (learnt.margin(matrix).mean() > layer.margin(matrix).mean()) == bool(outcome)


@pytest.mark.parametrize("outcome", [0, 1])
def test_labels_of_one_kind_that_chance_does_not_explain_leave_the_trees_alone(layer: Layer, outcome: int) -> None:
    matrix, labels = rows(500, seed=6)
    trees = layer.margin(matrix)
    learnt = layer.learn(matrix[:250], labels[:250], trees[:250])
    stopped = learnt.learn(matrix[:250], np.full(250, outcome), trees[:250])
    assert (stopped.share, stopped.shift, stopped.labels) == (0, 0, learnt.labels)
    np.testing.assert_array_equal(stopped.mixed(trees, matrix), trees)
    assert "the newest labels are all of one kind" in str(stopped)
    again = Layer.from_json(stopped.to_json())
    assert (again.share, str(again)) == (0, str(stopped))
    # The next whole batch of labels brings the layer back.
    back = again.learn(matrix[250:], labels[250:], trees[250:])
    assert back.share > 0.4
    assert "alone" not in str(back)


def test_labels_of_one_kind_by_chance_are_learnt(layer: Layer) -> None:
    matrix, _ = rows(20, seed=6)
    learnt = layer.learn(matrix, np.zeros(20, np.int8), layer.margin(matrix))
    assert learnt.labels == layer.labels + 20
    assert learnt.share > 0.4


def test_a_batch_far_outside_what_was_seen_leaves_the_trees_alone(layer: Layer) -> None:
    matrix, labels = rows(250, seed=6)
    trees = layer.margin(matrix)
    near, far = matrix.copy(), matrix.copy()
    near[:, 1] = 50 + 80 * (matrix[:, 0] == 1)
    far[:, 1] = 1e30
    assert layer.learn(near, labels, trees).labels == layer.labels + 250
    learnt = layer.learn(far, labels, trees)
    np.testing.assert_array_equal(learnt.mixed(trees, far), trees)
    assert "far outside all that it has learnt" in str(learnt)


def test_a_layer_that_harms_loses_its_share() -> None:
    matrix, labels = rows(4000)
    wrong = Layer.new(matrix, SLOTS, STILL).learn(matrix, 1 - labels)
    assert wrong.share > 0.45
    newer, truth = rows(1000, seed=7)
    margin = -1.0 + 1.2 * (newer[:, 0] == 2) - 0.8 * np.nan_to_num((newer[:, 1] - 50) / 10)
    learnt = wrong.learn(newer[:250], truth[:250], margin[:250])
    assert learnt.share < 0.005
    assert "labels contradict it, so the trees answer alone" in str(learnt)
    assert wrong.learn(newer, truth, margin).share < 0.01


def test_nothing_learnt_has_no_share_and_none_has_more_than_half() -> None:
    matrix, labels = rows(500)
    new = Layer.new(matrix, SLOTS)
    trees = np.linspace(-2, 2, 500)
    np.testing.assert_array_equal(new.mixed(trees, matrix), trees)
    greedy = Layer.new(matrix, SLOTS, Walks(share=0.9)).learn(matrix, labels)
    assert greedy.share <= 0.5


def test_rows_far_outside_what_was_seen_move_no_further_than_the_clip(layer: Layer) -> None:
    far = np.array([[1, 1e6, 0], [1, 1e30, 0]], np.float32)
    first, second = layer.margin(far)
    assert first == second
    assert abs(first) < 10


def test_json_round_trip(layer: Layer) -> None:
    matrix, labels = rows(500, seed=8)
    again = Layer.from_json(layer.to_json())
    np.testing.assert_allclose(again.margin(matrix), layer.margin(matrix), atol=1e-9)
    assert again.to_json() == layer.to_json()
    assert (again.labels, again.lag) == (layer.labels, layer.lag)
    learnt = layer.learn(matrix, labels, np.zeros(500))
    assert Layer.from_json(learnt.to_json()).shift == pytest.approx(learnt.shift, abs=1e-12)
    assert learnt.shift != 0
    np.testing.assert_allclose(again.learn(matrix, labels).mean, layer.learn(matrix, labels).mean, atol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [0.0]},
        {"covariance": []},
        {"variance": float("nan")},
        {"walks": {}},
        {"design": None},
        {"labels": "x"},
        {"doubt": float("inf")},
    ],
)
def test_a_foreign_state_is_refused(layer: Layer, change: dict[str, object]) -> None:
    content = json.loads(layer.to_json()) | change
    with pytest.raises(BundleError, match="the layer is not one that this version writes"):
        Layer.from_json(json.dumps(content))


def test_text_that_is_no_layer_is_refused() -> None:
    for text in ("", "[]", "{}", "null"):
        with pytest.raises(BundleError, match="the layer is not one"):
            Layer.from_json(text)


def test_what_trees_and_layer_get_wrong_of_the_level_is_corrected_once(layer: Layer) -> None:
    matrix, labels = rows(3000, seed=9)
    truth = layer.margin(matrix)
    trees, errors = truth + 2.0, []
    for start in range(0, 3000, 250):
        part = slice(start, start + 250)
        errors.append(float((layer.mixed(trees[part], matrix[part]) - truth[part]).mean()))
        layer = layer.learn(matrix[part], labels[part], trees[part])
    # The layer is right, but the trees keep half of their error, which only the offset can correct.
    assert errors[0] > 0.9
    assert max(map(abs, errors[4:])) < 0.45
    assert layer.shift < -0.5
    assert replace(layer, lag=10**6).shift == pytest.approx(0, abs=1e-9)


def test_weights_and_offset_do_not_both_correct_a_jump(layer: Layer) -> None:
    matrix, labels = rows(250, level=1.0, seed=3)
    trees = layer.margin(matrix)
    learnt = layer.learn(matrix, labels, trees)
    both = learnt.mixed(trees, matrix) - learnt.shift + learnt.offset
    assert expit(both).mean() == pytest.approx(labels.mean(), abs=0.02)


def test_an_offset_that_does_not_help_is_given_up(layer: Layer) -> None:
    matrix, labels = rows(20_000, seed=10)
    learnt = layer.learn(matrix, labels, layer.margin(matrix))
    assert expit(learnt.offset_trust) < 0.2
    assert abs(learnt.shift) < 0.1


def test_contributions_sum_to_the_mixed_margin(layer: Layer) -> None:
    matrix, labels = rows(500, seed=11)
    trees = np.random.default_rng(0).normal(size=(500, 4))
    learnt = layer.learn(matrix, labels, trees.sum(axis=1))
    assert learnt.shift != 0
    expected = learnt.mixed(trees.sum(axis=1), matrix)
    np.testing.assert_allclose(learnt.contributions(trees, matrix).sum(axis=1), expected, atol=1e-9)


def test_a_layer_from_before_the_offset_is_read(layer: Layer) -> None:
    content = json.loads(layer.to_json())
    del content["walks"]["offset"]
    old = {name: value for name, value in content.items() if name not in ("offset", "doubt", "offset_trust")}
    matrix, _ = rows(100, seed=12)
    trees = np.linspace(-2, 1, 100)
    again = Layer.from_json(json.dumps(old))
    np.testing.assert_allclose(again.mixed(trees, matrix), layer.mixed(trees, matrix), atol=1e-9)


def test_labels_that_contradict_leave_the_offset_within_its_walk(layer: Layer) -> None:
    matrix, _ = rows(2000, seed=13)
    for chance in (0.01, 0.99, 0.01, 0.99):
        labels = (np.random.default_rng(14).random(2000) < chance).astype(np.int8)
        layer = layer.learn(matrix, labels, np.full(2000, -1.0))
        assert abs(layer.offset) < 6 * layer.walks.offset.spread
        assert np.isfinite(layer.mixed(np.full(2000, -1.0), matrix)).all()
