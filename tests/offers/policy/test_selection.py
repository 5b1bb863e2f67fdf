"""A rule of the catalogue chooses customers; that is no drift of the column that it asks for."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from offers.contract import contract as contracts
from offers.drift.examination import Reference, examine
from offers.drift.reference import Watch, watched_columns
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.selection import select
from offers.simulation.world import World

SHIPPED = Path(catalogues.__file__).parent / "shipped" / "bank-marketing.yaml"
WINDOW = 1000


def test_the_column_of_a_rule_is_not_reported_as_drift() -> None:
    contract = contracts.load("bank-marketing")
    stricter = re.sub(r"(IN_DEFAULT, column: default, is_not: )\[yes\]", r"\1[yes, unknown]", SHIPPED.read_text())
    policy = Policy(catalogues.parse(stricter, contract), contract)
    names = [column.name for column in contract.inputs]
    rows = World(contract, 2).sample(9000).frame[names]
    mask = select(policy, rows)
    assert set(rows["default"][mask]) == {"no"}
    assert (rows["default"] != "no").mean() > 0.1

    known, later = rows.iloc[:6000].reset_index(drop=True), rows[6000:][mask[6000:]].iloc[:WINDOW]
    whole = Reference(watched_columns(contract), Watch.of(contract), known, np.full(6000, 0.1), {}, "bank-1")
    suspects = [default_of(later, reference) for reference in (whole, whole.where(mask[:6000]))]
    assert suspects == [True, False]


def default_of(rows: pd.DataFrame, reference: Reference) -> bool:
    report = examine(reference, rows.reset_index(drop=True), np.full(len(rows), 0.1))
    return next(column.suspect for column in report.columns if column.name == "default")
