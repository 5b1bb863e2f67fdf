import numpy as np
import pandas as pd
import pytest

from offers import contract as contracts
from offers.drift import population_stability_index as psi

FLOOR = 1e-4


def by_hand(p, q):
    """The definition, over bins that are given as shares."""
    return sum(
        (max(b, FLOOR) - max(a, FLOOR)) * np.log(max(b, FLOOR) / max(a, FLOOR)) for a, b in zip(p, q, strict=True)
    )


def test_categories_by_hand():
    reference = pd.Series(list("aaaabbbccc"), dtype="category")
    sample = pd.Series(list("abbc"), dtype="category")
    expected = (0.25 - 0.4) * np.log(0.25 / 0.4) + (0.5 - 0.3) * np.log(0.5 / 0.3) + (0.25 - 0.3) * np.log(0.25 / 0.3)
    assert psi(reference, sample) == pytest.approx(expected)
    assert psi(reference.astype(object), sample.astype(object)) == pytest.approx(expected)


def test_numbers_by_hand():
    reference = pd.Series(np.arange(1, 101))
    sample = pd.Series([5] * 20 + [15] * 30 + [95] * 50)
    expected = by_hand([0.1] * 10, [0.2, 0.3, 0, 0, 0, 0, 0, 0, 0, 0.5])
    assert psi(reference, sample) == pytest.approx(expected)
    assert psi(reference.astype(float), sample.astype(float)) == pytest.approx(expected)


def test_number_of_bins_can_be_chosen():
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
def test_same_samples_do_not_differ(kind):
    column = COLUMNS[kind]
    assert psi(column, column) == 0
    assert psi(column, column.iloc[::-1]) == 0
    assert psi(column, pd.concat([column, column])) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("known", "dtype"),
    [([1.0, 2.0, 3.0, 4.0], float), (["a", "b", "c", "d"], object), (["a", "b", "c", "d"], "category")],
)
def test_missing_cells_are_a_bin(known, dtype):
    reference = pd.Series(known * 25, dtype=dtype)
    half_missing = pd.Series([*known, *[None] * 4] * 25, dtype=dtype)
    assert psi(reference, half_missing) == pytest.approx(by_hand([0.25] * 4 + [0], [0.125] * 4 + [0.5]))
    assert psi(half_missing, reference) == pytest.approx(by_hand([0.125] * 4 + [0.5], [0.25] * 4 + [0]))


def test_column_that_was_always_missing_differs_once_it_is_filled():
    assert psi(pd.Series([np.nan] * 50), pd.Series([1.0] * 50)) == pytest.approx(by_hand([1, 0], [0, 1]))
    assert psi(pd.Series([1.0] * 50), pd.Series([np.nan] * 50)) == pytest.approx(by_hand([1, 0], [0, 1]))


@pytest.mark.parametrize("other", [6, 8])
def test_constant_that_moves_differs_wherever_it_goes(other):
    assert psi(pd.Series([7] * 50), pd.Series([other] * 50)) == pytest.approx(by_hand([1, 0], [0, 1]))


def test_values_below_a_frequent_lowest_one_differ():
    reference = pd.Series([0] * 90 + list(range(1, 11)))
    sample = pd.Series([-1] * 90 + list(range(1, 11)))
    assert psi(reference, sample) == pytest.approx(by_hand([0.9, 0], [0, 0.9]))


def test_category_that_was_never_seen_is_a_bin():
    reference = pd.Series(["a", "b"] * 10, dtype="category")
    sample = pd.Series(["a", "c"] * 10, dtype="category")
    assert psi(reference, sample) == pytest.approx(by_hand([0.5, 0.5, 0], [0.5, 0, 0.5]))


def test_order_of_categories_does_not_matter():
    reference, sample = pd.Series(["a", "b", "b"]), pd.Series(["a", "a", "b"])
    turned = [part.astype(pd.CategoricalDtype(["b", "unused", "a"])) for part in (reference, sample)]
    assert psi(*turned) == pytest.approx(psi(reference, sample))


def test_a_larger_shift_is_a_larger_index():
    generator = np.random.default_rng(0)
    reference = pd.Series(generator.normal(size=5000))
    found = [psi(reference, pd.Series(generator.normal(shift, size=5000))) for shift in (0, 0.25, 0.5, 1)]
    assert found == sorted(found)
    assert found[0] < 0.01
    # Two normals of equal spread, shift d: the sum tends to the symmetric Kullback-Leibler divergence, d squared.
    assert found[2] == pytest.approx(0.25, rel=0.2)


def test_uci_months_drift_and_loans_do_not(uci_typed):
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
