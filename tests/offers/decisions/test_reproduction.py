from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from offers.contract.contract import Contract
from offers.decisions import history, log
from offers.decisions.reproduction import redo
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import DataError
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import answered, policy_event
from tests.support.rankers import CROWD, EXPLORING


@pytest.fixture
def tables(shop_contract: Contract, tmp_path: Path) -> DeltaTables:
    spool = Spool(tmp_path / "spool", "pod", SpoolLimits())
    spool.append(policy_event(shop_contract, EXPLORING))
    for k in range(20):
        spool.append(log.decided(answered(shop_contract, CROWD, 10 * k, catalogue=EXPLORING, seed=k)))
    spool.seal()
    tables = DeltaTables.at(str(tmp_path / "tables"), Settings())
    assert not [one for one in ship(spool.directory, tables) if one.refusal]
    return tables


def test_drawn_decisions_come_out_to_the_byte(tables: DeltaTables) -> None:
    again = redo(history.read(tables), history.kept(tables))
    assert again.holds
    assert (again.decisions, again.erased, again.differing) == (20 * len(CROWD), 0, ())


def altered(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(column), column, values)


def test_an_altered_propensity_or_question_is_found(tables: DeltaTables) -> None:
    table = history.read(tables)
    rows = table.to_pylist()
    victim = next(place for place, row in enumerate(rows) if row["offer_id"] is not None)
    rows[victim]["pairs"][0]["propensity"] /= 2
    other = next(place for place, row in enumerate(rows) if place != victim and '"visits":3.0' in row["inputs"])
    rows[other]["inputs"] = rows[other]["inputs"].replace('"visits":3.0', '"visits":0.0')
    again = redo(pa.Table.from_pylist(rows, table.schema), history.kept(tables))
    assert not again.holds
    assert set(again.differing) == {rows[victim]["decision_id"], rows[other]["decision_id"]}


def test_scores_are_made_again_for_the_bundles_own_decisions(tables: DeltaTables) -> None:
    table, kept = history.read(tables), history.kept(tables)
    told = {row["propensity"] for pairs in table["pairs"].to_pylist() for row in pairs}
    same = redo(table, kept, "shop-1", lambda columns: np.full(len(columns["spending"]), 0.5))
    assert same.scored == same.rescored > 0
    assert same.farthest == pytest.approx(max(abs(value - 0.5) for value in told))
    assert not same.holds
    other = redo(table, kept, "shop-2", lambda columns: np.full(len(columns["spending"]), 0.5))
    assert (other.scored, other.farthest, other.holds) == (0, 0, True)


def test_a_decision_whose_catalogue_is_not_in_the_log_is_told(tables: DeltaTables) -> None:
    with pytest.raises(DataError, match="expected it among the log's policies, found none"):
        redo(history.read(tables), {})
