"""Partial dependence: equal to scikit-learn's, with every row counted once, and in the world's true direction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import partial_dependence

from offers.bundle.bundle import Bundle, load
from offers.contract.contract import Contract
from offers.data.dataset import Dataset
from offers.evaluation import dependence
from offers.evaluation.dependence import dependences
from offers.evaluation.figures import ColumnPower, Dependence
from offers.steps.data import read_gold
from tests.support.runs import ShopRun


class _Estimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A bundle's model as scikit-learn sees one."""

    classes_ = np.array([0, 1])

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def fit(self, *_: Any) -> "_Estimator":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        propensity = 1 / (1 + np.exp(-self.bundle.model.encoded_margin(matrix)))
        return np.column_stack([1 - propensity, propensity])


@pytest.fixture(scope="module")
def bundle(shop_run: ShopRun) -> Bundle:
    return load(shop_run.bundle)


@pytest.fixture(scope="module")
def shop(shop_run: ShopRun, shop_contract: Contract) -> Dataset:
    return read_gold(shop_run.gold, shop_contract)


def test_points_are_those_of_scikit_learn(
    bundle: Bundle, shop: Dataset, shop_contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependence, "_SAMPLE", len(shop))
    matrix, names = shop.encode(shop_contract), bundle.model.encoder.names
    found = list(dependences(bundle.model, shop.frame, shop_contract, bundle.evaluation.columns))
    assert [one.column for one in found] == _by_gain(bundle.evaluation.columns)
    for one in found:
        place = names.index(one.column)
        codes = (
            np.array(one.numbers, np.float32)
            if one.numbers
            else np.unique(matrix[:, place][~np.isnan(matrix[:, place])])
        )
        expected = partial_dependence(
            _Estimator(bundle), matrix, [place], custom_values={place: codes}, method="brute", categorical_features=None
        )
        np.testing.assert_allclose(one.propensity, expected["average"][0], atol=1e-6)


def _by_gain(columns: Sequence[ColumnPower]) -> list[str]:
    ranking = sorted(columns, key=lambda column: -column.gain_share)
    return [column.column for column in ranking][: dependence.MOST_COLUMNS]


def test_every_row_stands_behind_one_point(bundle: Bundle, shop: Dataset, shop_contract: Contract) -> None:
    for one in dependences(bundle.model, shop.frame, shop_contract, bundle.evaluation.columns):
        values = shop.frame[one.column]
        assert sum(one.share) + one.missing_share == pytest.approx(1, abs=1e-4)
        assert one.missing_share == pytest.approx(values.isna().mean(), abs=1e-6)
        assert (one.missing is None) == values.notna().all()
        if one.words and shop_contract[one.column].type == "category":
            assert dict(zip(one.words, one.share, strict=True)) == pytest.approx(
                values.value_counts(normalize=True).to_dict(), abs=1e-6
            )


def test_the_direction_is_that_of_the_world(bundle: Bundle, shop: Dataset, shop_contract: Contract) -> None:
    by_name = {
        one.column: one for one in dependences(bundle.model, shop.frame, shop_contract, bundle.evaluation.columns)
    }
    spending = by_name["spending"]
    assert spending.propensity[-1] > spending.propensity[0] + 0.1
    assert len(spending.numbers) <= dependence.MOST_POINTS


def test_a_constant_column_has_no_direction(bundle: Bundle, shop: Dataset, shop_contract: Contract) -> None:
    frame = shop.frame.assign(spending=7.0, visits=[np.nan] * len(shop.frame))
    columns = [column.column for column in dependences(bundle.model, frame, shop_contract, bundle.evaluation.columns)]
    assert not {"spending", "visits"} & set(columns)


def test_many_categories_and_long_tails_are_cut(bundle: Bundle, shop_contract: Contract) -> None:
    column = shop_contract["channel"].model_copy(update={"values": tuple(f"v{n}" for n in range(40))})
    present = np.repeat(np.arange(40.0), np.arange(1, 41))
    points = dependence._points(present, column)
    assert points.tolist() == list(range(20, 40))
    tail = np.append(np.linspace(0, 10, 1000), 1e9)
    points = dependence._points(tail, shop_contract["spending"])
    assert points.max() < 10
    assert dependence._rows(tail, points, shop_contract["spending"]).sum() == len(tail)


def test_older_bundles_lack_them(bundle: Bundle) -> None:
    assert all(isinstance(one, Dependence) for one in bundle.evaluation.dependences)
    content = bundle.evaluation.model_dump(exclude={"dependences"})
    assert type(bundle.evaluation).model_validate(content).dependences == ()


def test_frames_are_left_as_they_are(bundle: Bundle, shop: Dataset, shop_contract: Contract) -> None:
    before = shop.frame.copy()
    list(dependences(bundle.model, shop.frame, shop_contract, bundle.evaluation.columns))
    pd.testing.assert_frame_equal(shop.frame, before)
