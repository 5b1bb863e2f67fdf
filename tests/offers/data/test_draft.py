"""Drafts of contracts: what they guess, and that the rows keep to them at once."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offers.contract import contract as contracts
from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.data import csv_writer, draft, table_file
from offers.data.validation import validate
from offers.errors import DataError
from offers.policy import catalogue as catalogues
from offers.policy import draft as catalogue_draft
from offers.simulation.world import World

ROWS = 400


def drafted(path: Path, target: str = "") -> Contract:
    """The contract of a file, which the file keeps to."""
    source, name = {"file": path.name, "uri": str(path)}, path.name.split(".")[0]
    text = draft.contract_text(draft.read_file(path), source, name, target)
    contract = contracts.parse(text)
    checked = validate(table_file.read(path, contract, path.name), contract)
    assert [str(violation) for violation in checked.violations] == []
    catalogues.parse(catalogue_draft.catalogue_text(contract), contract)
    return contract


def awkward(**columns: object) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = {
        "client id": [f"c{row // 2}" for row in range(ROWS)],
        "seen": pd.date_range("2024-01-01", periods=ROWS, freq="6h", tz="Europe/Lisbon").astype(str),
        "born": [f"{row % 28 + 1:02}.{row % 12 + 1:02}.19{row % 60 + 30}" for row in range(ROWS)],
        "sum": [f"{row % 5 + 1}.{row % 1000:03},5" for row in range(ROWS)],
        "visits": np.where(random.random(ROWS) < 0.3, 999, random.integers(0, 12, ROWS)),
        "calm": random.choice(["yes", "no", "NA"], ROWS),
        "region": random.choice(["Nørre", "a, b", "true", "1.50", "null", "it's"], ROWS),
        "note": [f"text {row}" for row in range(ROWS)],
        "big": [2**60 + row for row in range(ROWS)],
        "constant": "x",
        "k": random.integers(0, 5, ROWS),
        "call duration": random.integers(0, 900, ROWS),
        "": range(ROWS),
        "label": random.choice(["won", "lost"], ROWS, p=[0.2, 0.8]),
    }
    return pd.DataFrame(rows | columns)


def test_an_awkward_file_is_described_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "campaign.csv"
    awkward().to_csv(path, sep=";", index=False)
    contract = drafted(path)
    form = contract.source.format
    assert (form.separator, form.decimal, form.thousands, contract.source.extra_columns) == (";", ",", ".", "ignore")
    assert (contract.target.column, contract.target.positive, contract.target.negative) == ("label", "won", "lost")
    assert contract.time is not None
    assert contract.time.column == "seen"
    kinds = {column.name: (column.role, column.type) for column in contract.columns}
    assert kinds == {
        "client id": (Role.IDENTIFIER, "text"),
        "seen": (Role.TIME, "date"),
        "born": (Role.IDENTIFIER, "date"),
        "sum": (Role.CUSTOMER, "number"),
        "visits": (Role.CUSTOMER, "integer"),
        "calm": (Role.CUSTOMER, "boolean"),
        "region": (Role.CUSTOMER, "category"),
        "note": (Role.IDENTIFIER, "text"),
        "big": (Role.IDENTIFIER, "text"),
        "constant": (Role.IDENTIFIER, "text"),
        "k": (Role.IDENTIFIER, "integer"),
        "call duration": (Role.LEAKAGE, "integer"),
        "label": (Role.TARGET, "category"),
    }
    assert contract["born"].format == "%d.%m.%Y"
    assert contract["visits"].missing == ("999",)
    assert contract["calm"].missing == ("NA",)
    assert set(contract["region"].values) == {"Nørre", "a, b", "true", "1.50", "null", "it's"}


def test_a_column_that_gives_the_outcome_away_is_leakage(tmp_path: Path) -> None:
    path = tmp_path / "campaign.parquet"
    frame = awkward().drop(columns=["", "constant"])
    frame.assign(paid=(frame["label"] == "won") * 100.0 + np.arange(ROWS) / ROWS).to_parquet(path)
    contract = drafted(path)
    assert contract["paid"].role == Role.LEAKAGE
    assert contract["client id"].role == Role.IDENTIFIER


def test_a_target_has_to_have_two_values(tmp_path: Path) -> None:
    path = tmp_path / "campaign.csv"
    awkward().to_csv(path, index=False)
    assert drafted(path, "label").target.column == "label"
    for target, message in (("region", "expected a target of two values"), ("absent", "got 'absent'")):
        with pytest.raises(DataError, match=message):
            drafted(path, target)
    path.write_text("a,b\n1,x\n2,y\n3,z\n")
    with pytest.raises(DataError, match="no column has two values"):
        drafted(path)


@pytest.mark.parametrize("name", contracts.shipped())
def test_a_shipped_contracts_file_is_described_so_that_it_passes(name: str, tmp_path: Path) -> None:
    contract, path = contracts.load(name), tmp_path / f"{name}.csv"
    csv_writer.write_csv(World(contract, 1).sample(2000, seed=1).frame, contract, path)
    got = drafted(path)
    assert (got.target.column, got.target.positive) == (contract.target.column, contract.target.positive)
    assert {column.name for column in got.columns} == {column.name for column in contract.columns}
    if name == "bank-marketing":
        assert got["duration"].role == Role.LEAKAGE
        assert got["pdays"].missing == ("999",)
        assert {column.name for column in got.protected} == {"age", "marital"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bank-additional-full", "Bank_Personal_Loan_Modelling", "lendingclub"])
def test_real_data_are_described_so_that_they_pass(name: str) -> None:
    path = Path(os.environ.get("OFFERS_DATA_DIR", "absent")) / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"OFFERS_DATA_DIR holds no {name}.csv")
    drafted(path)
