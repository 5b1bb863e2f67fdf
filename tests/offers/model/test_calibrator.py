import json

import numpy as np
import pytest

from offers.errors import BundleError
from offers.model.calibrator import Beta, Calibrator, Isotonic, Platt

MARGIN = np.array([-800.0, -2.0, 0.0, 2.0, 800.0], np.float32)
ALL = [Platt(), Platt(0.5, -1.0), Beta(0.7, 1.4, -0.2), Isotonic((-2.0, 0.0, 1.5), (-3.0, -0.5, 0.5))]


def test_platt_is_the_logistic_of_slope_and_intercept() -> None:
    found = Platt(0.5, -1.0)(MARGIN)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [0, 1 / (1 + np.exp(2)), 1 / (1 + np.exp(1)), 0.5, 1], atol=1e-15)


def test_beta_is_its_formula() -> None:
    p = np.array([0.02, 0.3, 0.5, 0.9])
    found = Beta(0.7, 1.4, -0.2).log_odds(np.log(p / (1 - p)))
    np.testing.assert_allclose(found, 0.7 * np.log(p) - 1.4 * np.log(1 - p) - 0.2)
    np.testing.assert_allclose(Beta().log_odds(MARGIN), MARGIN, atol=1e-12)


def test_isotonic_is_interpolated_and_ends_flat() -> None:
    found = ALL[3].log_odds(np.array([[-9.0, -1.0], [0.75, 9.0]]))
    np.testing.assert_allclose(found, [[-3.0, -1.75], [0.0, 0.5]])


@pytest.mark.parametrize("calibrator", ALL, ids=str)
def test_contributions_sum_to_the_calibrated_margin(calibrator: Calibrator) -> None:
    parts = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    parts[:, -1] = -1.2
    parts[0, :-1] = 0
    found = calibrator.contributions(parts)
    np.testing.assert_allclose(found.sum(axis=1), calibrator.log_odds(parts.sum(axis=1)), atol=1e-6)
    np.testing.assert_allclose(found[:, -1], calibrator.log_odds(parts[:, -1]), atol=1e-6)
    assert (found[:, :-1] * parts[:, :-1] >= 0).all()


def test_contributions_under_platt_are_scaled_by_its_slope() -> None:
    parts = np.random.default_rng(0).normal(size=(50, 4))
    np.testing.assert_allclose(Platt(0.5, -1.0).contributions(parts)[:, :-1], parts[:, :-1] * 0.5)


@pytest.mark.parametrize("calibrator", ALL, ids=str)
def test_json_round_trip(calibrator: Calibrator) -> None:
    assert Calibrator.from_json(calibrator.to_json()) == calibrator


def test_no_calibration_is_written_as_version_0_1_reads_it() -> None:
    assert json.loads(Platt().to_json()) == {"method": "platt", "slope": 1.0, "intercept": 0.0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "[]",
        "null",
        "{}",
        '{"method": "platt", "slope": "steep", "intercept": 0}',
        '{"method": "platt", "slope": null, "intercept": 0}',
        '{"method": "platt", "slope": NaN, "intercept": 0}',
        '{"method": "spline", "slope": 1, "intercept": 0}',
        '{"method": [], "slope": 1, "intercept": 0}',
        '{"method": "beta", "a": -1, "b": 1, "c": 0}',
        '{"method": "isotonic", "slope": 1, "intercept": 0}',
        '{"method": "isotonic", "margins": [], "values": []}',
        '{"method": "isotonic", "margins": [0, 1], "values": [0]}',
        '{"method": "isotonic", "margins": [1, 0], "values": [0, 1]}',
        '{"method": "isotonic", "margins": [0, 1], "values": [1, 0]}',
    ],
)
def test_a_foreign_calibrator_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match="the calibrator is not one that this version writes"):
        Calibrator.from_json(text)
