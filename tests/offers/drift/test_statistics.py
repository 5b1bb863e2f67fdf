import doctest
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from offers.contract import contract as contracts
from offers.drift import significance
from offers.drift import statistics as drift
from offers.drift.statistics import population_stability_index as psi

FLOOR = 1e-4


def by_hand(p: Sequence[float], q: Sequence[float]) -> float:
    """The definition, over bins that are given as shares."""
    return sum(
        (max(b, FLOOR) - max(a, FLOOR)) * np.log(max(b, FLOOR) / max(a, FLOOR)) for a, b in zip(p, q, strict=True)
    )


def test_categories_by_hand() -> None:
    reference = pd.Series(list("aaaabbbccc"), dtype="category")
    sample = pd.Series(list("abbc"), dtype="category")
    expected = (0.25 - 0.4) * np.log(0.25 / 0.4) + (0.5 - 0.3) * np.log(0.5 / 0.3) + (0.25 - 0.3) * np.log(0.25 / 0.3)
    assert psi(reference, sample) == pytest.approx(expected)
    assert psi(reference.astype(object), sample.astype(object)) == pytest.approx(expected)


def test_numbers_by_hand() -> None:
    reference = pd.Series(np.arange(1, 101))
    sample = pd.Series([5] * 20 + [15] * 30 + [95] * 50)
    expected = by_hand([0.1] * 10, [0.2, 0.3, 0, 0, 0, 0, 0, 0, 0, 0.5])
    assert psi(reference, sample) == pytest.approx(expected)
    assert psi(reference.astype(float), sample.astype(float)) == pytest.approx(expected)


def test_number_of_bins_can_be_chosen() -> None:
    reference, sample = pd.Series(np.arange(100.0)), pd.Series(np.arange(50.0))
    assert psi(reference, sample, bins=2) == pytest.approx(by_hand([0.5, 0.5], [1, 0]))


COLUMNS = {
    "numbers": pd.Series(np.random.default_rng(0).normal(size=500)),
    "whole numbers": pd.Series(np.random.default_rng(0).integers(0, 4, 500)),
    "booleans": pd.Series([True, False, False] * 50),
    "numbers and gaps": pd.Series([1.0, np.nan, 3.0, 4.0] * 50),
    "only gaps": pd.Series([np.nan] * 50),
    "constant": pd.Series([7] * 50),
    "words": pd.Series(list("abc") * 20),
    "categories and gaps": pd.Series(["a", None, "b"] * 20, dtype="category"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_same_samples_do_not_differ(kind: Any) -> None:
    column = COLUMNS[kind]
    assert psi(column, column) == 0
    assert psi(column, column.iloc[::-1]) == 0
    assert psi(column, pd.concat([column, column])) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("known", "dtype"),
    [([1.0, 2.0, 3.0, 4.0], float), (["a", "b", "c", "d"], object), (["a", "b", "c", "d"], "category")],
)
def test_missing_cells_are_a_bin(known: list[Any], dtype: Any) -> None:
    reference = pd.Series(known * 25, dtype=dtype)
    half_missing = pd.Series([*known, *[None] * 4] * 25, dtype=dtype)
    assert psi(reference, half_missing) == pytest.approx(by_hand([0.25] * 4 + [0], [0.125] * 4 + [0.5]))
    assert psi(half_missing, reference) == pytest.approx(by_hand([0.125] * 4 + [0.5], [0.25] * 4 + [0]))


def test_column_that_was_always_missing_differs_once_it_is_filled() -> None:
    assert psi(pd.Series([np.nan] * 50), pd.Series([1.0] * 50)) == pytest.approx(by_hand([1, 0], [0, 1]))
    assert psi(pd.Series([1.0] * 50), pd.Series([np.nan] * 50)) == pytest.approx(by_hand([1, 0], [0, 1]))


@pytest.mark.parametrize("other", [6, 8])
def test_constant_that_moves_differs_wherever_it_goes(other: int) -> None:
    assert psi(pd.Series([7] * 50), pd.Series([other] * 50)) == pytest.approx(by_hand([1, 0], [0, 1]))


def test_values_below_a_frequent_lowest_one_differ() -> None:
    reference = pd.Series([0] * 90 + list(range(1, 11)))
    sample = pd.Series([-1] * 90 + list(range(1, 11)))
    assert psi(reference, sample) == pytest.approx(by_hand([0.9, 0], [0, 0.9]))


def test_category_that_was_never_seen_is_a_bin() -> None:
    reference = pd.Series(["a", "b"] * 10, dtype="category")
    sample = pd.Series(["a", "c"] * 10, dtype="category")
    assert psi(reference, sample) == pytest.approx(by_hand([0.5, 0.5, 0], [0.5, 0, 0.5]))


def test_order_of_categories_does_not_matter() -> None:
    reference, sample = pd.Series(["a", "b", "b"]), pd.Series(["a", "a", "b"])
    turned = [part.astype(pd.CategoricalDtype(["b", "unused", "a"])) for part in (reference, sample)]
    assert psi(*turned) == pytest.approx(psi(reference, sample))


def test_a_larger_shift_is_a_larger_index() -> None:
    generator = np.random.default_rng(0)
    reference = pd.Series(generator.normal(size=5000))
    found = [psi(reference, pd.Series(generator.normal(shift, size=5000))) for shift in (0, 0.25, 0.5, 1)]
    assert found == sorted(found)
    assert found[0] < 0.01
    # Two normals of equal spread, shift d: the sum tends to the symmetric Kullback-Leibler divergence, d squared.
    assert found[2] == pytest.approx(0.25, rel=0.2)


def test_uci_months_drift_and_loans_do_not(uci_typed: pd.DataFrame) -> None:
    contract = contracts.load("bank-marketing")
    first, last = int(0.6 * len(uci_typed)), len(uci_typed)
    window = slice(last - 5492, last)
    found = {
        column.name: psi(uci_typed[column.name].iloc[:first], uci_typed[column.name].iloc[window])
        for column in contract.inputs
    }
    assert found["loan"] < 0.0025
    assert found["housing"] < 0.025
    assert min(found[name] for name in ("euribor3m", "emp.var.rate", "cons.price.idx", "nr.employed", "month")) > 2
    assert 0.5 < found["job"] < 0.7
    assert 0.2 < found["age"] < 0.4
    expected = {column.name for column in contract.inputs if column.drift == "expected"}
    assert {name for name, value in found.items() if value > 6} <= expected


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(drift) == (0, 3)
    assert doctest.testmod(significance) == (0, 3)


SAMPLES = {
    "normal": (np.random.default_rng(1).normal(size=900), np.random.default_rng(2).normal(0.1, size=300)),
    "whole numbers": (np.random.default_rng(1).integers(0, 5, 900), np.random.default_rng(2).integers(0, 4, 300)),
    "constants": (np.ones(50), np.ones(20)),
    "apart": (np.zeros(50), np.ones(20)),
    "one row": (np.arange(50.0), np.array([3.0])),
    "small": (np.arange(7.0), np.arange(2.0, 12.0)),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_kolmogorov_smirnov_is_scipys_asymptotic_test(kind: Any) -> None:
    reference, sample = SAMPLES[kind]
    expected = stats.ks_2samp(reference, sample, method="asymp")
    distance = drift.ks_distance(reference, sample)
    assert distance == pytest.approx(expected.statistic, abs=1e-12)
    p_value = significance.ks_p_value(distance, len(reference), len(sample))
    assert p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_distance_of_counts_is_that_of_the_numbers_at_the_ends_of_bins() -> None:
    reference, sample = SAMPLES["normal"]
    edges = drift.bin_edges(reference)
    counts = [drift.bin_counts(part, edges)[:-1] for part in (reference, sample)]
    at_edges = max(abs((reference <= edge).mean() - (sample <= edge).mean()) for edge in edges)
    assert drift.ks_distance_of_counts(*counts) == pytest.approx(at_edges)
    assert at_edges <= drift.ks_distance(reference, sample)


def test_kolmogorov_smirnov_leaves_missing_cells_out() -> None:
    reference, sample = SAMPLES["normal"]
    with_gaps = np.concatenate([[np.nan], sample, [np.nan] * 200])
    assert drift.ks_distance(reference, with_gaps) == drift.ks_distance(reference, sample)
    assert np.isnan(drift.ks_distance(reference, [np.nan]))
    assert np.isnan(significance.ks_p_value(np.nan, len(reference), 0))


@pytest.mark.parametrize(
    "table", [([50, 30, 20], [40, 40, 30]), ([50, 30], [40, 40]), ([5, 0], [0, 5]), ([9000, 200, 800], [880, 40, 80])]
)
def test_chi_squared_is_scipys_with_yates_correction(table: tuple[Any, ...]) -> None:
    assert significance.chi_squared_p_value(*table) == pytest.approx(stats.chi2_contingency(table).pvalue, rel=1e-9)


def test_chi_squared_leaves_out_what_occurs_in_neither_sample() -> None:
    with_empty = significance.chi_squared_p_value([50, 0, 30, 20], [40, 0, 40, 30])
    assert with_empty == significance.chi_squared_p_value([50, 30, 20], [40, 40, 30])


@pytest.mark.parametrize("table", [([10, 0], [5, 0]), ([10, 5], [0, 0]), ([0], [0]), ([], [])])
def test_chi_squared_has_no_answer_where_nothing_can_be_compared(table: tuple[Any, ...]) -> None:
    assert np.isnan(significance.chi_squared_p_value(*table))


@pytest.mark.parametrize(("a", "m", "x", "n"), [(200, 10_000, 40, 1000), (0, 500, 7, 200), (90, 100, 30, 60)])
def test_share_test_is_scipys_likelihood_ratio_of_a_two_by_two_table(a: int, m: int, x: int, n: int) -> None:
    expected = stats.chi2_contingency([[a, m - a], [x, n - x]], lambda_="log-likelihood").pvalue
    assert significance.share_p_values(a, m, x, n) == pytest.approx(expected, rel=1e-9)


def test_share_test_has_nothing_to_say_of_what_is_nowhere_or_everywhere() -> None:
    assert significance.share_p_values([0, 1000], 1000, [0, 200], 200).tolist() == [1, 1]


@pytest.mark.parametrize("share", [0.0005, 0.002, 0.01, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("rows", [200, 1000])
def test_share_test_keeps_its_level_for_rare_categories(share: float, rows: int) -> None:
    """All outcomes, weighed by their exact probability."""
    counts = [np.arange(*stats.binom.interval(1 - 1e-9, n, share), dtype=int) for n in (10_000, rows)]
    p_values = significance.share_p_values(counts[0][:, None], 10_000, counts[1][None, :], rows)
    chance = np.outer(*(stats.binom.pmf(k, n, share) for k, n in zip(counts, (10_000, rows), strict=True)))
    for level in (0.05, 1e-3, 1e-5):
        assert chance[p_values <= level].sum() <= 1.1 * level


def test_false_discoveries_are_scipys() -> None:
    p_values = np.random.default_rng(0).uniform(size=40) ** 3
    expected = stats.false_discovery_control(p_values) <= 0.1
    assert 1 < expected.sum() < 40
    np.testing.assert_array_equal(significance.false_discovery(p_values, 0.1), expected)


def test_tests_that_could_not_be_made_do_not_count() -> None:
    assert significance.false_discovery([0.03, np.nan, np.nan], 0.05).tolist() == [True, False, False]
    assert significance.false_discovery([0.03, 1.0, 1.0], 0.05).tolist() == [False, False, False]
    assert (
        significance.false_discovery([], 0.05).tolist()
        == significance.false_discovery([np.nan], 0.05)[:0].tolist()
        == []
    )


def test_cramers_v_is_scipys_for_samples_of_one_size() -> None:
    table = np.array([[50, 30, 20], [40, 40, 20]])
    assert drift.cramers_v(*table) == pytest.approx(stats.contingency.association(table, "cramer"))


def test_cramers_v_does_not_know_how_large_the_reference_is() -> None:
    assert drift.cramers_v([5000, 3000, 2000, 0], [4, 4, 2, 0]) == pytest.approx(
        drift.cramers_v([0.5, 0.3, 0.2, 0], [0.4, 0.4, 0.2, 0])
    )
    assert drift.cramers_v([3, 0], [0, 9]) == 1
    assert np.isnan(drift.cramers_v([3, 0], [0, 0]))


@pytest.mark.parametrize("rows", [200, 500, 5492])
def test_noise_of_the_index_is_what_chance_makes_of_it(rows: int) -> None:
    generator = np.random.default_rng(5)
    shares = np.array([0.3, 0.25, 0.2, 0.15, 0.06, 0.02, 0.015, 0.005])
    reference = generator.multinomial(10_000, shares)
    found = [drift.psi(reference, generator.multinomial(rows, shares)) for _ in range(4000)]
    assert drift.psi_noise(reference, rows) == pytest.approx(np.quantile(found, 0.99), rel=0.15)


def test_noise_of_even_bins_follows_chi_squared() -> None:
    expected = (1 / 500 + 1 / 10_000) * stats.chi2.ppf(0.99, 9)
    assert drift.psi_noise(np.full(10, 1000), 500) == pytest.approx(expected, rel=0.1)
    assert np.isnan(drift.psi_noise(np.full(10, 1000), 0))


def test_rare_bins_make_the_index_noisy_in_small_windows() -> None:
    rare = [9000, 200, 200, 150, 150, 100, 60, 50, 40, 30, 20]
    assert drift.psi_noise(rare, 200) > 1.5 * drift.psi_noise(np.full(11, 909), 200)


def test_attribution_by_hand() -> None:
    gain = 0.1 / np.log2(2) + 0.3 / np.log2(3) + 0.8 / np.log2(4)
    best = 0.8 / np.log2(2) + 0.3 / np.log2(3) + 0.1 / np.log2(4)
    assert drift.attribution_ndcg([0.8, 0.3, 0.1], [1, 2, 3]) == pytest.approx(gain / best)


def test_attribution_sees_order_alone_and_hardly_near_ties() -> None:
    assert drift.attribution_ndcg([0.8, 0.3, 0.1], [8, 3, 1]) == pytest.approx(1)
    assert drift.attribution_ndcg([0.80, 0.79, 0.1], [0.79, 0.80, 0.1]) > 0.99
    assert np.isnan(drift.attribution_ndcg([0, 0], [1, 2]))
    # Without any importance in the sample, no order of the columns may decide.
    first, last = drift.attribution_ndcg([0.8, 0.3, 0.1], [0, 0, 0]), drift.attribution_ndcg([0.1, 0.3, 0.8], [0, 0, 0])
    assert first == pytest.approx(last)
    assert 0.66 < first < 1


def test_means_are_compared_by_scipys_welch_test() -> None:
    reference, sample = SAMPLES["normal"]
    expected = stats.ttest_ind(reference, sample, equal_var=False).pvalue
    assert significance.mean_p_value(reference, sample) == pytest.approx(expected)


def test_means_of_too_few_or_of_constant_numbers() -> None:
    assert np.isnan(significance.mean_p_value([1, 2, 3], [9]))
    assert significance.mean_p_value([1, 1], [1, 1]) == 1
    assert significance.mean_p_value([1, 1], [2, 2]) == 0


@pytest.mark.parametrize(("positives", "rows"), [(10, 100), (0, 30), (30, 30)])
def test_interval_of_a_share_is_wilsons(positives: int, rows: int) -> None:
    expected = stats.binomtest(positives, rows).proportion_ci(method="wilson")
    assert significance.wilson_interval(positives, rows) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_no_rows_say_nothing_of_a_share() -> None:
    assert significance.wilson_interval(0, 0) == (0, 1)
