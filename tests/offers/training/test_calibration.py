from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from offers.contract import contract as contracts
from offers.contract.sections import Calibration
from offers.data.dataset import Dataset
from offers.model.calibrator import Beta, Calibrator, Isotonic, Platt
from offers.simulation.world import World
from offers.training.calibration import Method, calibrate, calibration_edges, fit_calibrator
from offers.training.learners import train

Sample = tuple[np.ndarray, np.ndarray]


def drawn(n_rows: int, seed: int = 0, slope: float = 1.0, level: float = 0.0) -> Sample:
    """Margins, and labels whose true log-odds are a line of them."""
    generator = np.random.default_rng(seed)
    margin = generator.normal(-1, 1.5, n_rows)
    return margin, (generator.random(n_rows) < expit(slope * margin + level)).astype(int)


def error_of(truth: np.ndarray, propensity: np.ndarray) -> float:
    """The calibration error against the truth: by tenths of the propensity, weighted by rows."""
    tenth = np.minimum((propensity * 10).astype(int), 9)
    return float(np.abs(np.bincount(tenth, truth - propensity)).sum() / len(truth))


def test_platt_recovers_slope_and_intercept() -> None:
    found = fit_calibrator("platt", *drawn(200_000, slope=0.6, level=-0.4), prior=0)
    assert isinstance(found, Platt)
    assert (found.slope, found.intercept) == pytest.approx((0.6, -0.4), abs=0.02)


def test_platt_is_logistic_regression_on_the_margin() -> None:
    margin, labels = drawn(3000, slope=1.7, level=0.3)
    other = LogisticRegression(C=np.inf).fit(margin[:, None], labels)
    found = fit_calibrator("platt", margin.astype(np.float32), labels, prior=0)
    assert isinstance(found, Platt)
    assert (found.slope, found.intercept) == pytest.approx((other.coef_[0, 0], other.intercept_[0]), abs=2e-3)


def test_isotonic_is_isotonic_regression_on_the_margin() -> None:
    margin, labels = drawn(3000, slope=0.7)
    margin = margin.round(1)
    found = fit_calibrator("isotonic", margin, labels, prior=1)
    assert isinstance(found, Isotonic)
    other = IsotonicRegression().fit(margin, labels)
    middle = (found.margins > np.quantile(margin, 0.05)) & (found.margins < np.quantile(margin, 0.95))
    here = other.predict(np.unique(margin))
    assert (
        np.abs(found(np.array(found.margins))[middle] - np.interp(found.margins, np.unique(margin), here)[middle]).max()
        < 0.05
    )
    far = found(np.array([-1e9, 1e9]))
    assert 0 < far[0] < far[1] < 1


@pytest.mark.parametrize("method", ["beta", "isotonic"])
def test_curved_truth_is_recovered(method: Method) -> None:
    generator = np.random.default_rng(0)
    margin = generator.normal(-1, 1.5, 100_000)
    truth = expit(1.6 * np.logaddexp(0, margin) - 0.5 * np.logaddexp(0, -margin) - 1)
    found = fit_calibrator(method, margin, generator.random(len(margin)) < truth, prior=50)
    assert np.abs(found(margin) - truth).mean() < 0.006
    assert (
        np.abs(fit_calibrator("platt", margin, generator.random(len(margin)) < truth, 50)(margin) - truth).mean()
        > 0.008
    )


def test_prior_is_the_penalty_it_says() -> None:
    generator = np.random.default_rng(2)
    margin = generator.normal(0, 1, 300)
    labels = (generator.random(300) < expit(0.3 * margin + 1)).astype(int)

    def loss(weights: np.ndarray) -> float:
        propensity = expit(weights[0] * margin + weights[1])
        # 40 rows like these whose labels agree with the margins: their Fisher information at slope 1, intercept 0.
        chance = expit(margin)
        change = (weights[0] - 1) * margin + weights[1]
        penalty = 40 * np.mean(chance * (1 - chance) * change**2) / 2
        return float(penalty - np.log(np.where(labels == 1, propensity, 1 - propensity)).sum())

    expected = minimize(loss, [0.5, 0.5], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}).x
    found = fit_calibrator("platt", margin, labels, prior=40)
    assert isinstance(found, Platt)
    assert (found.slope, found.intercept) == pytest.approx(tuple(expected), abs=1e-3)


@pytest.mark.parametrize("method", ["platt", "beta", "isotonic"])
def test_strong_belief_leaves_the_margins_as_they_are(method: Method) -> None:
    margin = np.linspace(-3, 3, 500)
    found = fit_calibrator(method, margin, margin < 0, prior=1e12)
    np.testing.assert_allclose(found.log_odds(margin), margin, atol=1e-5)


@pytest.mark.parametrize("method", ["none", "platt", "beta", "isotonic"])
def test_no_rows_change_nothing(method: Method) -> None:
    assert fit_calibrator(method, np.zeros(0), np.zeros(0), prior=0) == Platt()


@pytest.mark.parametrize("method", ["platt", "beta", "isotonic"])
@pytest.mark.parametrize("outcome", [0, 1])
def test_one_outcome_leaves_finite_log_odds(method: Method, outcome: int) -> None:
    found = fit_calibrator(method, np.linspace(-2, 0, 100), np.full(100, outcome), prior=50)
    log_odds = found.log_odds(np.array([-30.0, -1.0, 30.0]))
    assert np.isfinite(log_odds).all()
    assert (log_odds[1] > -1) == bool(outcome)


def auto(margin: np.ndarray, labels: np.ndarray, ordered: bool = True) -> type[Calibrator]:
    return type(calibrate(margin, labels, Calibration(rows=len(labels)), ordered))


@pytest.mark.parametrize("ordered", [True, False])
def test_a_method_is_chosen_where_it_helps(ordered: bool) -> None:
    margin, labels = drawn(2000)
    assert calibrate(margin, labels, Calibration(), ordered) == Platt()
    assert auto(*drawn(2000, slope=0.4, level=-0.8), ordered) is Platt
    generator = np.random.default_rng(0)
    margin = generator.normal(-1, 2, 8000)
    curve = expit(2.5 * np.logaddexp(0, margin) - 0.3 * np.logaddexp(0, -margin) - 1)
    assert auto(margin, generator.random(len(margin)) < curve, ordered) is Beta
    steps = np.where(margin < -2, 0.05, np.where(margin < 1, 0.3, 0.9))
    assert auto(margin, generator.random(len(margin)) < steps, ordered) is Isotonic


def test_a_level_that_jumps_is_no_reason_to_calibrate() -> None:
    """A fit on the quarters before misses the level of the next one, whichever the method."""
    parts = [drawn(500, seed, level=level) for seed, level in enumerate([-0.7, 0.7, -0.7, 0.7])]
    margin, labels = (np.concatenate(values) for values in zip(*parts, strict=True))
    assert calibrate(margin, labels, Calibration()) == Platt()


def test_the_newest_rows_with_a_margin_are_learnt() -> None:
    margin, labels = drawn(1000, slope=2, level=-1)
    margin[:500] = np.nan
    settings = Calibration(method="platt", rows=200, prior=5)
    expected = fit_calibrator("platt", margin[-200:], labels[-200:], prior=5)
    assert calibrate(margin, labels, settings) == expected
    older = labels.copy()
    older[:800] = 1 - older[:800]
    assert calibrate(margin, older, settings) == expected
    more = Calibration(method="platt", rows=900, prior=5)
    assert calibrate(margin, older, more) == fit_calibrator("platt", margin[500:], older[500:], 5)


@pytest.mark.parametrize(
    ("n_rows", "refit_every", "settings", "expected"),
    [
        (1000, 100, Calibration(rows=300), [700, 800, 900]),
        (1000, 100, Calibration(rows=250), [700, 800, 900]),
        (1030, 500, Calibration(), [530]),
        (900, 500, Calibration(rows=200), []),
        (1000, 100, Calibration(method="none"), []),
    ],
)
def test_blocks_that_the_calibrator_learns_from(
    n_rows: int, refit_every: int, settings: Calibration, expected: list[Any]
) -> None:
    assert calibration_edges(n_rows, refit_every, settings) == expected


@pytest.mark.parametrize(("trees", "helps"), [(20, True), (50, True), (100, True), (300, False)])
def test_trained_models_promise_the_truth_whatever_their_size(trees: int, helps: bool) -> None:
    """Few trees are timid: their propensities lie too near the mean. Enough trees need no calibration."""
    contract = contracts.load("personal-loan")
    contract = contract.model_copy(update={"evaluation": contract.evaluation.model_copy(update={"folds": 3})})
    sample = World(contract).sample(10_000)
    dataset = Dataset.prepare(sample.frame, contract)
    matrix, known = dataset.encode(contract), slice(5000)
    settings = contract.model.model_copy(update={"trees": trees})
    model = train(contract, settings, matrix[known], dataset.labels[known])
    raw, truth = model.booster.inplace_predict(matrix[5000:], predict_type="margin"), sample.propensity[5000:]
    error, raw_error = (
        error_of(truth, propensity) for propensity in (model.calibrator(raw), expit(raw.astype(np.float64)))
    )
    assert error < 0.01
    assert helps == (raw_error > 0.03) == (model.calibrator != Platt())
