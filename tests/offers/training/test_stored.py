"""Training on rows that stay in their file, held against training on the same rows in memory."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offers.contract.contract import Contract
from offers.data.dataset import Dataset, windows
from offers.evaluation.evaluate import _scheme
from offers.steps.data import ROWS, read_gold
from offers.training import learners, stored
from offers.training.size import Form, affordable, form_of
from offers.training.stored import StoredRows
from tests.support.runs import ShopRun


@pytest.fixture
def rows(shop_run: ShopRun, shop_contract: Contract) -> StoredRows:
    return StoredRows(shop_run.gold / ROWS, shop_contract)


@pytest.fixture
def dataset(shop_run: ShopRun, shop_contract: Contract) -> Dataset:
    return read_gold(shop_run.gold, shop_contract)


@pytest.mark.parametrize("block", [97, 100_000])
def test_blocks_are_the_rows_in_memory(
    rows: StoredRows, dataset: Dataset, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "BLOCK", block)
    matrix, labels = rows.part(150, len(dataset) - 7)
    np.testing.assert_array_equal(matrix, dataset.encode(rows.contract)[150:-7])
    np.testing.assert_array_equal(labels, dataset.labels[150:-7])


@pytest.mark.parametrize("form", [Form.BLOCKS, Form.EXTERNAL])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_model_of_blocks_scores_as_one_of_the_whole_matrix(
    rows: StoredRows, dataset: Dataset, form: Form, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamics = rows.contract.dynamics.model_copy(update={"share": share})
    contract = rows.contract.model_copy(update={"dynamics": dynamics})
    rows = StoredRows(rows.path, contract)
    matrix, labels = dataset.encode(contract), dataset.labels
    whole = learners.train(contract, contract.model, matrix, labels)
    # Bins that are made of several blocks differ a little where a column has more values than bins.
    monkeypatch.setattr(stored, "BLOCK", 256)
    model = stored.train(contract, contract.model, rows, form, tmp_path)
    assert (model.layer is None) == (whole.layer is None)
    np.testing.assert_allclose(model.encoded_margin(matrix), whole.encoded_margin(matrix), atol=0.35)
    correlation = np.corrcoef(model.encoded_margin(matrix), whole.encoded_margin(matrix))[0, 1]
    assert correlation > 0.99
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(stored, "BLOCK", 100_000)
    one = stored.train(contract, contract.model, rows, form, tmp_path)
    np.testing.assert_allclose(one.encoded_margin(matrix), whole.encoded_margin(matrix), atol=1e-5)


def test_size_and_missing_cells_choose_the_form(shop_contract: Contract, rows: StoredRows, tmp_path: Path) -> None:
    cells, model = len(shop_contract.inputs) * 4, shop_contract.model
    whole, blocks = 2**28 // cells, 2**30 // cells
    for n_rows, form in {
        whole: Form.WHOLE,
        whole + 1: Form.BLOCKS,
        blocks: Form.BLOCKS,
        blocks + 1: Form.EXTERNAL,
    }.items():
        assert form_of(shop_contract, model, n_rows, False) is form
    for n_rows, form in {whole: Form.WHOLE, whole + 1: Form.EXTERNAL}.items():
        assert form_of(shop_contract, model, n_rows, True) is form
    newest = model.model_copy(update={"newest_rows": 1000})
    assert form_of(shop_contract, newest, 10**9, True) is Form.BLOCKS
    other = model.model_copy(update={"learner": "lightgbm"})
    assert form_of(shop_contract, other, 10**9, True) is Form.WHOLE
    assert rows.has_missing
    full = pd.read_parquet(rows.path).dropna()
    full.to_parquet(tmp_path / ROWS, index=False)
    assert not StoredRows(tmp_path / ROWS, shop_contract).has_missing


def test_refits_are_spread_out_where_they_would_see_too_many_rows(shop_contract: Contract) -> None:
    assert affordable(shop_contract, 40_000) is shop_contract
    assert _scheme(shop_contract, 2, 40_000).endswith("200 refits, one every 100 rows")
    newest = shop_contract.model.model_copy(update={"newest_rows": 100})
    assert affordable(quick := shop_contract.model_copy(update={"model": newest}), 10_000_000) is quick
    for n_rows, least in ((2_000_000, 2), (200_000_000, 2)):
        sized = affordable(shop_contract, n_rows)
        assert f"refits, one every {sized.evaluation.refit_every} rows in place of 100, " in _scheme(
            shop_contract, 2, n_rows
        )
        edges = range(n_rows // 2, n_rows, sized.evaluation.refit_every)
        assert len(edges) >= least
        assert sum(edges) <= 50_000_000 or len(edges) == len(windows(shop_contract, n_rows))
