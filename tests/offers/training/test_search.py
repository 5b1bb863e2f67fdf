from dataclasses import replace
from pathlib import Path

import pytest

from offers.contract.contract import Contract
from offers.data.dataset import Dataset, origin
from offers.steps.data import read_gold
from offers.training import search as searching
from offers.training.search import search
from tests.support.runs import ShopRun


@pytest.fixture
def rows(shop_run: ShopRun, shop_contract: Contract) -> Dataset:
    return read_gold(shop_run.gold, shop_contract)


def test_shows_each_trial_and_never_ends_worse_than_the_contracts_settings(
    rows: Dataset, shop_contract: Contract, tmp_path: Path
) -> None:
    said = []
    (found,) = search(shop_contract, rows, trials=3, seed=0, directory=tmp_path, say=said.append)
    assert [line.split(":")[0] for line in said] == ["trial 1 of 3", "trial 2 of 3", "trial 3 of 3"]
    loss = searching._objective(shop_contract, rows.first(origin(shop_contract, len(rows))), 0)
    assert loss(found) <= loss(shop_contract.model)


def test_one_trial_is_the_contracts_own(rows: Dataset, shop_contract: Contract, tmp_path: Path) -> None:
    assert search(shop_contract, rows, trials=1, seed=0, directory=tmp_path, say=str) == (shop_contract.model,)


def test_interrupted_and_taken_up_it_finds_the_same(rows: Dataset, shop_contract: Contract, tmp_path: Path) -> None:
    whole = search(shop_contract, rows, trials=10, seed=1, directory=tmp_path / "whole", say=str)

    def interrupt(text: str) -> None:
        if text.startswith("trial 4 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(shop_contract, rows, trials=10, seed=1, directory=tmp_path / "parts", say=interrupt)
    said = []
    assert search(shop_contract, rows, trials=10, seed=1, directory=tmp_path / "parts", say=said.append) == whole
    assert [line.split(" ")[1] for line in said] == ["5", "6", "7", "8", "9", "10"]


def test_labels_of_the_windows_are_not_looked_at(rows: Dataset, shop_contract: Contract, tmp_path: Path) -> None:
    end = origin(shop_contract, len(rows))
    flipped = rows.labels.copy()
    flipped[end:] = 1 - flipped[end:]
    found = [
        search(shop_contract, replace(rows, labels=labels), trials=4, seed=0, directory=tmp_path / name, say=str)
        for name, labels in (("true", rows.labels), ("flipped", flipped))
    ]
    assert found[0] == found[1]


def test_other_data_is_another_search(rows: Dataset, shop_contract: Contract, tmp_path: Path) -> None:
    search(shop_contract, rows, trials=1, seed=0, directory=tmp_path, say=str)
    search(shop_contract, rows.first(len(rows) - 5), trials=1, seed=0, directory=tmp_path, say=str)
    search(shop_contract, rows, trials=1, seed=5, directory=tmp_path, say=str)
    search(shop_contract, replace(rows, groups=rows.labels), trials=1, seed=0, directory=tmp_path, say=str)
    assert len(list(tmp_path.glob("*.log"))) == 4
