"""Folds that keep a customer's rows together, so that a model can't shine by recognising the customer."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from offers import files
from offers.bundle.provenance import Provenance
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.data.dataset import Dataset
from offers.data.validation import validate
from offers.errors import ContractError, DataError
from offers.evaluation.refits import folded_propensity
from offers.steps import data as steps
from offers.training.learners import BoostedTrees

TEXT = """\
name: regulars
title: Regular customers
source: {file: regulars.csv}
target: {column: y, positive: 1, negative: 0}
columns:
  - {name: client, role: identifier, type: text, nullable: true}
  - {name: x, role: customer, type: number}
  - {name: y, role: target, type: category}
evaluation: {folds: 3, group: client}
model: {trees: 60, depth: 6, learning_rate: 0.3}
gate: [{metric: auc, at_least: 0.5}]
"""
CUSTOMERS, VISITS = 300, 4


@pytest.fixture(scope="module")
def contract() -> Contract:
    return contracts.parse(TEXT)


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """Make customers whose outcome is chance and the same at each visit: nothing can be known of a new customer."""
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=CUSTOMERS), generator.integers(0, 2, CUSTOMERS)
    rows = {"client": [f"client-{n}" for n in range(CUSTOMERS)], "x": map(str, x), "y": map(str, y)}
    visits = pd.concat([pd.DataFrame(rows)] * VISITS)
    return visits.sample(frac=1, random_state=1).reset_index(drop=True)


def test_grouped_folds_are_not_fooled_by_customers_that_come_again(contract: Contract, raw: pd.DataFrame) -> None:
    dataset = Dataset.prepare(validate(raw, contract).frame, contract)
    assert dataset.groups is not None
    learner = BoostedTrees(contract.model, ("q",))
    matrix = dataset.encode(contract)
    grouped, mixed = (
        folded_propensity(learner, matrix, dataset.labels, contract, 0, groups=groups)
        for groups in (dataset.groups, None)
    )
    assert roc_auc_score(dataset.labels, mixed) > 0.85
    assert roc_auc_score(dataset.labels, grouped) < 0.6


def test_prepared_rows_have_numbers_of_groups_and_no_names(
    contract: Contract, raw: pd.DataFrame, tmp_path: Path
) -> None:
    raw = raw.assign(client=raw["client"].mask(raw.index < 2, None))
    dataset = Dataset.prepare(validate(raw, contract).frame, contract)
    assert dataset.groups is not None
    named = pd.Series(dataset.groups[2:]).groupby(raw["client"].iloc[2:].to_numpy()).nunique()
    assert (named == 1).all()
    assert len(set(dataset.groups)) == raw["client"].nunique() + 2
    dataset.to_frame().to_parquet(tmp_path / "gold.parquet")
    assert b"client-" not in (tmp_path / "gold.parquet").read_bytes()
    again = Dataset.of_frame(pd.read_parquet(tmp_path / "gold.parquet"), contract)
    np.testing.assert_array_equal(again.groups, dataset.groups)
    assert list(again.frame) == ["x"]


def test_fewer_customers_than_folds_are_refused(contract: Contract, raw: pd.DataFrame, tmp_path: Path) -> None:
    typed = validate(raw.assign(client=np.where(raw.index % 2, "a", "b")), contract).frame
    files.save(tmp_path / "typed", steps.ROWS, typed)
    files.save(tmp_path / "typed", steps.PROVENANCE, Provenance(origin="x", source_sha256=None, rows=len(typed)))
    with pytest.raises(DataError, match="expected 3 different values of 'client' for as many folds, got 2"):
        steps.prepare(TEXT, tmp_path / "typed", tmp_path / "gold")


@pytest.mark.parametrize(("name", "problem"), [("nobody", "'nobody' is no column"), ("y", "'y' is the target")])
def test_the_group_is_a_column_beside_the_target(name: str, problem: str) -> None:
    with pytest.raises(ContractError, match=f"line 9: evaluation.group: {problem}"):
        contracts.parse(TEXT.replace("group: client", f"group: {name}"))
