from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import ks_2samp
from sklearn import metrics as sklearn_metrics

from offers.evaluation import metrics
from offers.evaluation.figures import Figure, Scores

LABELS = np.array([0, 0, 1, 0, 1, 0, 0, 1, 0, 0])
PROPENSITY = np.array([0.05, 0.15, 0.9, 0.25, 0.35, 0.45, 0.1, 0.3, 0.5, 0.2])


def simulated(n_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from known propensities, so that these are calibrated."""
    generator = np.random.default_rng(seed)
    propensity = expit(generator.normal(-1.5, 1.2, n_rows))
    return (generator.random(n_rows) < propensity).astype(np.int8), propensity


def test_figures_by_hand() -> None:
    figures = metrics.figures(LABELS, PROPENSITY, share=0.2)
    assert set(figures) == {
        *("auc", "average_precision", "log_loss", "brier", "ece"),
        *("ks", "lift", "precision", "recall", "f1"),
    }
    # Of 3 x 7 pairs, 0.35 loses to 0.45 and 0.5, and 0.3 to the same two.
    assert figures["auc"] == pytest.approx(17 / 21)
    # The acceptances stand at places 1, 4 and 5 of the ranking.
    assert figures["average_precision"] == pytest.approx((1 / 1 + 2 / 4 + 3 / 5) / 3)
    assert figures["log_loss"] == pytest.approx(
        -np.mean(np.log([0.95, 0.85, 0.9, 0.75, 0.35, 0.55, 0.9, 0.3, 0.5, 0.8]))
    )
    assert figures["brier"] == pytest.approx(
        np.mean([0.0025, 0.0225, 0.01, 0.0625, 0.4225, 0.2025, 0.01, 0.49, 0.25, 0.04])
    )
    # All acceptances are at 0.3 and above; of the others 5 of 7 are below.
    assert figures["ks"] == pytest.approx(5 / 7)
    # The best two are 0.9, accepted, and 0.5, not.
    assert figures["precision"] == pytest.approx(1 / 2)
    assert figures["recall"] == pytest.approx(1 / 3)
    assert figures["f1"] == pytest.approx(2 / 5)
    assert figures["lift"] == pytest.approx((1 / 2) / (3 / 10))


def test_figures_are_those_of_other_libraries() -> None:
    labels, propensity = simulated(5000)
    figures = metrics.figures(labels, propensity, share=0.1)
    assert figures["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, propensity))
    assert figures["average_precision"] == pytest.approx(sklearn_metrics.average_precision_score(labels, propensity))
    assert figures["log_loss"] == pytest.approx(sklearn_metrics.log_loss(labels, propensity))
    assert figures["brier"] == pytest.approx(sklearn_metrics.brier_score_loss(labels, propensity))
    assert figures["ks"] == pytest.approx(ks_2samp(propensity[labels == 1], propensity[labels == 0]).statistic)
    chosen = metrics.contacted(propensity, 0.1).astype(bool)
    assert figures["precision"] == pytest.approx(sklearn_metrics.precision_score(labels, chosen))
    assert figures["recall"] == pytest.approx(sklearn_metrics.recall_score(labels, chosen))
    assert figures["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, chosen))


def test_labels_may_be_booleans() -> None:
    assert metrics.figures(LABELS.astype(bool), PROPENSITY, 0.2) == metrics.figures(LABELS, PROPENSITY, 0.2)


@pytest.mark.parametrize("labels", [np.zeros(5, int), np.ones(5, int), np.zeros(0, int)])
def test_one_outcome_only_has_no_figures(labels: Any) -> None:
    assert metrics.figures(labels, np.linspace(0.1, 0.5, len(labels)), 0.2) == {}


def test_a_constant_score_knows_nothing() -> None:
    labels = np.r_[np.ones(25), np.zeros(75)].astype(int)
    found = metrics.figures(np.random.default_rng(0).permutation(labels), np.full(100, 0.25), 0.2)
    assert (found["auc"], found["ks"], found["average_precision"], found["ece"]) == (0.5, 0.0, 0.25, 0.0)
    assert found["log_loss"] == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    assert found["brier"] == pytest.approx(0.25 * 0.75)
    assert [found[name] for name in ("lift", "precision", "recall")] == pytest.approx([1, 0.25, 0.2])
    np.testing.assert_allclose(metrics.gains(labels, np.full(100, 0.25), np.array([0, 20, 50, 100])), [0, 0.2, 0.5, 1])
    scores = metrics.score(labels, np.full(100, 0.4), 0.2, bootstrap=50)
    assert scores.figures["auc"].low == scores.figures["auc"].high == 0.5
    assert scores.figures["ece"].value == pytest.approx(0.15)
    difference = metrics.differences(labels, np.full(100, 0.4), np.full(100, 0.2), 0.2, 50)["auc"]
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_reliability_by_hand() -> None:
    labels = np.array([0, 1, 1, 0, 1])
    propensity = np.array([0.0, 0.05, 0.15, 0.19, 1.0])
    expected = [[0.025, 0.5, 2], [0.17, 0.5, 2], [1.0, 1.0, 1]]
    np.testing.assert_allclose(metrics.reliability(labels, propensity), expected)


def test_calibration_error_by_hand() -> None:
    labels = np.array([0, 1, 1, 0, 1])
    propensity = np.array([0.0, 0.05, 0.15, 0.19, 1.0])
    assert metrics.expected_calibration_error(labels, propensity) == pytest.approx((2 * 0.475 + 2 * 0.33 + 0) / 5)


def test_calibrated_propensities_have_a_small_error_and_doubled_ones_a_large_one() -> None:
    labels, propensity = simulated(50_000)
    assert metrics.expected_calibration_error(labels, propensity) < 0.01
    doubled = np.minimum(2 * propensity, 1)
    gap = float(np.mean(doubled - propensity))
    assert metrics.expected_calibration_error(labels, doubled) == pytest.approx(gap, abs=0.01)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.25, [0, 1, 0, 0]), (0.5, [0, 1, 1, 0]), (0.75, [0.5, 1, 1, 0.5]), (0.01, [0, 1, 0, 0]), (1, [1, 1, 1, 1])],
)
def test_equals_share_the_places_at_the_cut(share: float, expected: list[Any]) -> None:
    assert metrics.contacted(np.array([0.2, 0.7, 0.5, 0.2]), share).tolist() == expected


def test_ties_at_the_cut_count_by_their_share_of_acceptances() -> None:
    labels, propensity = np.array([0, 1, 0, 1]), np.array([0.1, 0.5, 0.5, 0.5])
    figures = metrics.figures(labels, propensity, share=0.5)
    assert [figures[name] for name in ("precision", "recall", "lift")] == pytest.approx([2 / 3, 2 / 3, 4 / 3])
    assert figures["auc"] == pytest.approx((1 + 0.5) / 2)


def test_figures_do_not_depend_on_the_order_of_the_rows() -> None:
    labels, propensity = simulated(2000)
    propensity = propensity.round(1)
    expected = metrics.figures(labels, propensity, 0.1)
    rng = np.random.default_rng(5)
    for _ in range(20):
        rows = rng.permutation(2000)
        assert metrics.figures(labels[rows], propensity[rows], 0.1) == pytest.approx(expected, rel=1e-12)
        chances = metrics.contacted(propensity[rows], 0.1)
        np.testing.assert_array_equal(chances, metrics.contacted(propensity, 0.1)[rows])
        assert chances.sum() == pytest.approx(200)
        assert float(labels[rows] @ chances) == pytest.approx(expected["recall"] * labels.sum())


def test_ties_are_worth_the_mean_of_their_random_orders() -> None:
    labels, propensity = simulated(300)
    propensity = propensity.round(1)
    rng = np.random.default_rng(6)
    drawn = [metrics.figures(labels, propensity + 1e-9 * rng.random(300), 0.1)["lift"] for _ in range(2000)]
    error = np.std(drawn) / np.sqrt(2000)
    assert abs(np.mean(drawn) - metrics.figures(labels, propensity, 0.1)["lift"]) < 4 * error


def test_no_acceptance_among_the_contacted() -> None:
    figures = metrics.figures(np.array([1, 0, 0, 0]), np.array([0.1, 0.9, 0.3, 0.4]), share=0.25)
    assert (figures["precision"], figures["recall"], figures["f1"], figures["lift"]) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("rate", "share", "expected"), [(0.05, 0.1, 10), (0.1, 0.1, 10), (0.42, 0.1, 1 / 0.42), (1, 0.1, 1), (0, 0.1, 10)]
)
def test_lift_ceiling(rate: float, share: float, expected: int) -> None:
    assert metrics.lift_ceiling(rate, share) == pytest.approx(expected)


def test_lift_ceiling_is_reached_by_a_perfect_ranking() -> None:
    for positives in (10, 20, 400):
        labels = np.repeat([1, 0], [positives, 1000 - positives])
        lift = metrics.figures(labels, np.linspace(0.9, 0.1, 1000), share=0.02)["lift"]
        assert lift == pytest.approx(metrics.lift_ceiling(positives / 1000, 0.02))


def test_score_holds_figures_and_rates() -> None:
    scores = metrics.score(LABELS, PROPENSITY, share=0.2)
    assert (scores.rows, scores.positive_rate, scores.mean_propensity) == (10, 0.3, 0.325)
    assert scores.lift_ceiling == pytest.approx(1 / 0.3, abs=1e-6)
    assert scores["auc"] == Figure(value=round(17 / 21, 6))
    assert str(scores["auc"]) == "0.810"


def test_score_of_one_outcome_survives_json() -> None:
    scores = metrics.score(np.zeros(20, int), np.full(20, 0.1), share=0.1, bootstrap=50)
    assert scores.figures == {}
    assert Scores.model_validate_json(scores.model_dump_json()) == scores


def test_interval_holds_the_figure_and_depends_on_the_seed_only() -> None:
    labels, propensity = simulated(800)
    scores = metrics.score(labels, propensity, share=0.1, bootstrap=50, seed=1)
    without = {name for name, figure in scores.figures.items() if figure.low is None}
    assert without == {"ece", "ks"}
    assert all(scores[name].low < scores[name].high for name in set(scores.figures) - without)
    assert scores["auc"].low < scores["auc"].value < scores["auc"].high
    assert metrics.score(labels, propensity, share=0.1, bootstrap=50, seed=1) == scores
    assert metrics.score(labels, propensity, share=0.1, bootstrap=50, seed=2) != scores
    assert str(Figure(value=0.75, low=0.7, high=0.8)) == "0.750 (0.700 to 0.800)"


def test_draws_without_an_acceptance_are_left_out() -> None:
    labels = np.zeros(12, int)
    labels[0] = 1
    scores = metrics.score(labels, np.linspace(0.9, 0.1, 12), share=0.1, bootstrap=100)
    assert scores["auc"] == Figure(value=1.0, low=1.0, high=1.0)


@pytest.mark.slow
def test_interval_covers_the_truth_in_95_percent_of_samples() -> None:
    labels, propensity = simulated(1_000_000, seed=99)
    truth = metrics.figures(labels, propensity, share=0.1)
    covered = dict.fromkeys(("auc", "brier", "log_loss", "lift"), 0)
    for seed in range(40):
        scores = metrics.score(*simulated(600, seed), share=0.1, bootstrap=100, seed=seed)
        for name in covered:
            covered[name] += scores[name].low <= truth[name] <= scores[name].high
    # At 95 % one in a thousand such counts is below 33; an interval half as wide would cover about 27.
    assert min(covered.values()) >= 33, covered
    assert sum(covered.values()) < 4 * 40 - 3, covered


def test_a_model_does_not_differ_from_itself() -> None:
    labels, propensity = simulated(400)
    found = metrics.differences(labels, propensity, propensity.copy(), share=0.1, bootstrap=50)
    assert set(found) == set(metrics.figures(labels, propensity, 0.1))
    assert set(found.values()) == {Figure(value=0.0, low=0.0, high=0.0)}


def test_difference_is_challenger_minus_champion_on_the_same_draws() -> None:
    labels, propensity = simulated(1500)
    noisy = expit(np.log(propensity / (1 - propensity)) + np.random.default_rng(1).normal(0, 1.5, 1500))
    found = metrics.differences(labels, propensity, noisy, share=0.1, bootstrap=40, seed=3)
    ours, theirs = (metrics.figures(labels, values, 0.1) for values in (propensity, noisy))
    for name in ("auc", "log_loss", "lift"):
        assert found[name].value == pytest.approx(ours[name] - theirs[name], abs=1e-6)
    assert found["auc"].low > 0
    assert found["log_loss"].high < 0
    back = metrics.differences(labels, noisy, propensity, share=0.1, bootstrap=40, seed=3)
    assert (back["auc"].low, back["auc"].high) == pytest.approx((-found["auc"].high, -found["auc"].low))


def test_paired_interval_of_like_models_is_narrow() -> None:
    labels, propensity = simulated(1500)
    nearly = expit(np.log(propensity / (1 - propensity)) + np.random.default_rng(1).normal(0, 0.1, 1500))
    found = metrics.differences(labels, propensity, nearly, share=0.1, bootstrap=40)["auc"]
    alone = metrics.score(labels, propensity, share=0.1, bootstrap=40)["auc"]
    assert found.high - found.low < (alone.high - alone.low) / 4


def test_within_periods_by_hand() -> None:
    periods = np.array(["2024-01"] * 4 + ["2024-02"] * 6 + ["2024-03"] * 5 + ["2024-04"] * 3)
    labels = np.array([0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    values = np.array([1, 2, 3, 4, 9, 1, 5, 2, 3, 7, 1, 2, 3, 4, 5, 1, 2, 3]) / 10
    # 3 of 4 pairs in January, 3 of 5 in February; March has one outcome, April too few rows.
    assert metrics.within_periods(labels, values, periods, smallest=4) == pytest.approx((4 * 3 / 4 + 6 * 3 / 5) / 10)
    assert metrics.within_periods(labels, values, periods, smallest=6) == pytest.approx(3 / 5)
    assert metrics.within_periods(labels, values, periods, smallest=7) is None


def test_within_periods_does_not_reward_following_the_base_rate() -> None:
    generator = np.random.default_rng(0)
    periods = np.repeat(np.arange(10), 500)
    rate = np.linspace(0.05, 0.6, 10)[periods]
    labels = (generator.random(5000) < rate).astype(int)
    values = rate + generator.normal(0, 1e-3, 5000)
    assert metrics.figures(labels, values, 0.1)["auc"] > 0.7
    assert metrics.within_periods(labels, values, periods, smallest=100) == pytest.approx(0.5, abs=0.03)


def test_one_of_twenty_random_scores_is_better_than_chance() -> None:
    generator = np.random.default_rng(3)
    periods = np.repeat(["a", "b", "c", "d"], (150, 400, 800, 90))
    rates = {"a": 0.5, "b": 0.05, "c": 0.2, "d": 0.5}
    labels = (generator.random(len(periods)) < np.vectorize(rates.get)(periods)).astype(float)
    bar = metrics.chance(labels, periods, smallest=100)
    draws = [metrics.within_periods(labels, generator.random(len(labels)), periods, 100) or 0.0 for _ in range(2000)]
    assert bar is not None
    assert np.mean(np.array(draws) > bar) == pytest.approx(0.05, abs=0.015)
    assert metrics.chance(labels, periods, smallest=1000) is None


def test_within_periods_takes_another_metric() -> None:
    periods, labels = np.array([1, 1, 2, 2]), np.array([0, 1, 1, 0])
    brier = metrics.within_periods(
        labels, np.array([0.5, 0.5, 1, 0]), periods, 2, metric=sklearn_metrics.brier_score_loss
    )
    assert brier == pytest.approx(0.125)
