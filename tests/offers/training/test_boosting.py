"""Every learner: its trees in a bundle, their contributions, constraints and weights."""

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from offers.batch.trees import trees_of
from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.contract.sections import Learner, ModelSettings
from offers.data.csv_writer import write_csv
from offers.errors import BundleError, ContractError
from offers.evaluation.figures import Evaluation
from offers.model import boosters
from offers.model.boosters import LIBRARIES, learner_of, library_of
from offers.model.propensity import margins
from offers.settings import Settings
from offers.simulation.world import World
from offers.steps import training
from offers.training.learners import BoostedTrees, Logistic
from serving.predictor.model import Predictor
from tests.support.runs import ShopRun, train_file
from tests.support.shop import SHOP

KINDS = ("q", "c", "q", "c")
ABSENT = importlib.util.find_spec("catboost") is None
CATBOOST = pytest.mark.skipif(ABSENT, reason="the extra is not installed: make setup EXTRA=catboost")
LEARNERS = ["xgboost", "lightgbm", pytest.param("catboost", marks=CATBOOST)]


def encoded(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose outcome rises with the first number and prefers a category; some cells are missing."""
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(rows, 4))
    matrix[:, 1], matrix[:, 3] = generator.integers(0, 4, rows), generator.integers(0, 80, rows)
    labels = generator.random(rows) < 1 / (1 + np.exp(1 - 1.5 * matrix[:, 0] - (matrix[:, 1] == 2)))
    matrix[generator.random(matrix.shape) < 0.05] = np.nan
    return matrix.astype(np.float32), labels.astype(np.int8)


def trees(learner: Learner, monotone: tuple[int, ...] = (), **settings: Any) -> BoostedTrees:
    own = {"trees": 30, "depth": 3, "learning_rate": 0.2, "column_share": 0.8}
    return BoostedTrees(ModelSettings(learner=learner, **own | settings), KINDS, monotone=monotone)


@pytest.fixture(params=LEARNERS)
def learner(request: pytest.FixtureRequest) -> Learner:
    return request.param


def test_trees_find_what_drives_the_outcome(learner: Learner) -> None:
    matrix, labels = encoded(3000)
    test, truth = encoded(3000, seed=1)
    assert roc_auc_score(truth, trees(learner).fit(matrix, labels)(test)) > 0.78


def test_a_file_holds_the_whole_model_and_is_the_same_each_time(learner: Learner) -> None:
    matrix, labels = encoded(1000)
    with ThreadPoolExecutor(2) as pool:
        first, again = pool.map(lambda _: trees(learner).booster(matrix, labels), range(2))
    library = library_of(first)
    content = library.dump(first)
    assert content == library.dump(again)
    read = library.load(content)
    np.testing.assert_array_equal(margins(read, matrix), margins(first, matrix))
    assert library.dump(read) == content


def test_contributions_sum_to_the_margin(learner: Learner) -> None:
    matrix, labels = encoded(1000)
    booster = trees(learner).booster(matrix, labels)
    parts = library_of(booster).contributions(booster, matrix[:50])
    assert parts.shape == (50, 5)
    np.testing.assert_allclose(parts.sum(axis=1), margins(booster, matrix[:50]), atol=1e-4)
    assert np.abs(parts[:, :-1]).mean(axis=0).argmax() == 0
    assert library_of(booster).gain(booster, 4).argmax() == 0


def test_batch_scores_each_variant_as_a_request_does(learner: Learner) -> None:
    matrix, labels = encoded(1000)
    booster = trees(learner).booster(matrix, labels)
    variants = np.array([[0.0], [2.0], [np.nan]], np.float32)
    batch = trees_of(booster, [1], variants).margins(matrix[:200].copy())
    for place, value in enumerate(variants):
        rows = matrix[:200].copy()
        rows[:, 1] = value
        np.testing.assert_allclose(batch[:, place], margins(booster, rows), atol=1e-5)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_monotone_column_never_turns(learner: Learner, direction: int) -> None:
    matrix, labels = encoded(2000)
    # The third column says nothing, so free trees go up and down with it.
    grid = np.tile(matrix[:40], (25, 1))
    grid[:, 2] = np.repeat(np.linspace(-3, 3, 25, dtype=np.float32), 40)

    def steps(monotone: tuple[int, ...]) -> np.ndarray:
        score = trees(learner, monotone).fit(matrix, labels)
        return np.diff(score(grid).reshape(25, 40), axis=0) * direction

    assert steps((0, 0, 0, 0)).min() < -0.01
    assert steps((0, 0, direction, 0)).min() >= -1e-6


def test_rows_without_weight_teach_nothing(learner: Learner) -> None:
    matrix, labels = encoded(3000)
    wrong = np.arange(3000) % 2 == 1
    taught, weights = np.where(wrong, 1 - labels, labels), np.where(wrong, 1e-3, 1.0)
    test, truth = encoded(3000, seed=1)
    assert roc_auc_score(truth, trees(learner).fit(matrix, taught)(test)) < 0.6
    assert roc_auc_score(truth, trees(learner).fit(matrix, taught, weights)(test)) > 0.76
    assert roc_auc_score(truth, Logistic(ModelSettings(), KINDS).fit(matrix, taught, weights)(test)) > 0.76


def test_newest_rows_keep_their_weights(learner: Learner) -> None:
    matrix, labels = encoded(1200)
    weights = np.random.default_rng(0).uniform(0.5, 2, 1200)
    newest = trees(learner, newest_rows=500).booster(matrix, labels, weights)
    alone = trees(learner).booster(matrix[-500:], labels[-500:], weights[-500:])
    np.testing.assert_array_equal(margins(newest, matrix), margins(alone, matrix))


@pytest.mark.parametrize("outcome", [0, 1])
def test_one_outcome_alone_gives_a_finite_score(learner: Learner, outcome: int) -> None:
    matrix, _ = encoded(200)
    score = trees(learner).fit(matrix, np.full(200, outcome, np.int8))(matrix)
    assert np.isfinite(score).all()
    assert (np.sign(score) == (1 if outcome else -1)).all()


def test_a_learner_that_is_not_installed_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(boosters, "import_module", absent)
    with pytest.raises(BundleError, match=r"learner catboost .* not installed: run make setup EXTRA=catboost, or pip"):
        trees("catboost").booster(*encoded(100))


def test_a_damaged_file_is_refused(learner: Learner) -> None:
    with pytest.raises(BundleError, match=rf"bundle here: {learner} \S+ can't read booster\.\w+: \S"):
        boosters.read_booster(learner, b"nonsense", "here")


WORLD = SHOP.replace("model: {trees: 20,", "model: {learner: LEARNER, trees: 20,")
WORLD = WORLD.replace("time: {column: asked on}", "time: {column: asked on}\nweight: trust")
WORLD = WORLD.replace("  - {name: bought,", "  - {name: trust, role: weight, type: number}\n  - {name: bought,")
WORLD = WORLD.replace("    unit: EUR\n", "    unit: EUR\n    monotone: up\n")
WORLD = WORLD.replace("refit_every: 100", "refit_every: 500").replace("at_least: 0.6", "at_least: 0.4")
WORLD += "simulation: {rows: 2000, base_rate: 0.3, customer_spread: 1.5, period_spread: 0}\n"


@pytest.fixture(scope="module", params=LEARNERS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShopRun:
    text, directory = WORLD.replace("LEARNER", request.param), tmp_path_factory.mktemp(request.param)
    contract = contracts.parse(text)
    write_csv(World(contract).sample(2000).frame, contract, directory / "orders.csv")
    return train_file(directory, text, directory / "orders.csv")


def test_a_bundle_scores_and_explains_with_its_learner(run: ShopRun, tmp_path: Path) -> None:
    bundle = bundles.load(run.bundle)
    learner = bundle.contract.model.learner
    assert learner_of(bundle.model.booster) == learner
    assert LIBRARIES[learner].file in bundle.manifest.files
    assert learner in bundle.manifest.libraries
    assert Predictor("shop", bundle).platform == f"offers_{learner}"
    assert run.package(tmp_path) == bundle.name
    rows = pd.read_parquet(run.bundle / "reference.parquet")
    trained = bundles.load_model(run.model)
    np.testing.assert_array_equal(bundle.model.margin(rows), trained.margin(rows))
    contributions = bundle.model.contributions(rows[:50])
    np.testing.assert_allclose(contributions.sum(axis=1), bundle.model.margin(rows[:50]), atol=1e-4)


def test_the_weight_is_no_input_of_the_model(run: ShopRun) -> None:
    bundle = bundles.load(run.bundle)
    assert "trust" not in bundle.model.encoder.names
    weights = pd.read_parquet(run.gold / "rows.parquet")["_weight"]
    assert weights.min() > 0
    assert weights.nunique() > 500


def test_the_trees_rise_with_a_monotone_column(run: ShopRun) -> None:
    bundle = bundles.load(run.bundle)
    rows = pd.concat([pd.read_parquet(run.bundle / "reference.parquet")[:20]] * 30, ignore_index=True)
    rows["spending"] = np.repeat(np.linspace(0, 10_000, 30), 20)
    score = bundle.model.tree_margin(bundle.model.encoder.encode(rows)).reshape(30, 20)
    assert np.diff(score, axis=0).min() >= -1e-6


@pytest.mark.slow
def test_search_tries_the_alternatives_and_the_report_compares_them(
    shop_rows: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    text = SHOP.replace("model: {trees: 20,", "model: {alternatives: [lightgbm], trees: 20,")
    text = text.replace("refit_every: 100", "refit_every: 500")
    shop_rows(2000).to_csv(tmp_path / "orders.csv", sep=";", index=False)
    run, said = train_file(tmp_path, text, tmp_path / "orders.csv"), list[str]()
    assert "Learners" not in (tmp_path / "report.html").read_text()
    settings = Settings(home=tmp_path)
    training.train(text, run.gold, run.model, 3, 0, settings, said.append)
    assert [line.split(",")[0] for line in said[:2]] == ["trial 1 of 3: XGBoost", "trial 2 of 3: LightGBM"]
    training.evaluate(text, run.gold, run.model, "", run.result, settings, said.append)
    evaluation = Evaluation.model_validate_json((run.result / "evaluation.json").read_text())
    assert sorted(candidate.learner for candidate in evaluation.candidates) == ["lightgbm", "xgboost"]
    own, other = evaluation.candidates
    assert own.scores == evaluation.model
    assert own.scores.rows == other.scores.rows
    assert own.windows == tuple(window.model["auc"].value for window in evaluation.windows)
    training.gate(text, run.gold, run.model, run.result, run.verdict, tmp_path / "report.html", settings, said.append)
    page = (tmp_path / "report.html").read_text()
    assert page.index('id="learners"') < page.index("LightGBM")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("role: weight, type: number", "role: weight, type: boolean", "a weight is a number or an integer"),
        ("role: weight, type: number", "role: weight, type: number, min: 0", "a weight is above 0"),
        ("role: weight, type: number", "role: weight, type: number, nullable: true", "a weight can't be missing"),
        ("weight: trust\n", "", "the columns with role weight are"),
        ("weight: trust\n", "weight: visits\n", "the columns with role weight are"),
        ("values: [mail, phone, web]", "values: [mail, phone, web], monotone: up", "this column is a category"),
        (
            "name: minutes, role: leakage",
            "name: minutes, monotone: up, role: leakage",
            "this column is of role leakage",
        ),
        ("learner: LEARNER", "learner: forest", "learner"),
    ],
)
def test_a_contract_with_a_wrong_weight_constraint_or_learner_is_refused(old: str, new: str, complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        contracts.parse(WORLD.replace(old, new).replace("LEARNER", "xgboost"))
