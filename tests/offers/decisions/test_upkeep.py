from datetime import timedelta
from pathlib import Path

import pytest

from offers.contract.contract import Contract
from offers.decisions import history, log
from offers.decisions.erasure import verify
from offers.decisions.records import DECISIONS, POLICIES
from offers.decisions.reproduction import redo
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.decisions.upkeep import tidy
from offers.errors import DataError
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import NOON, answered, policy_event
from tests.support.rankers import CROWD

DAYS = 3


@pytest.fixture
def tables(shop_contract: Contract, tmp_path: Path) -> DeltaTables:
    """Three days with four small files each."""
    spool = Spool(tmp_path / "spool", "pod", SpoolLimits())
    tables = DeltaTables.at(str(tmp_path / "tables"), Settings())
    spool.append(policy_event(shop_contract))
    for k in range(4 * DAYS):
        moment = NOON + timedelta(days=k // 4)
        spool.append(log.decided(answered(shop_contract, CROWD, 10 * k, moment, seed=k)))
        spool.seal()
        assert not [one for one in ship(spool.directory, tables) if one.refusal]
    return tables


def test_small_files_are_joined_and_each_decision_stays_as_it_was(tables: DeltaTables) -> None:
    before = {row["decision_id"]: row for row in history.read(tables).to_pylist()}
    found = {one.table: one for one in tidy(tables, None)}
    assert (found[DECISIONS].files_before, found[DECISIONS].files_after, found[DECISIONS].deleted) == (12, DAYS, 0)
    assert {row["decision_id"]: row for row in history.read(tables).to_pylist()} == before
    assert verify(tables).faults == ()
    assert redo(history.read(tables), history.kept(tables)).holds
    assert not tables.append(DECISIONS, history.read(tables), "pod", 5)


def test_what_is_too_old_is_deleted_by_its_date_and_catalogues_stay(tables: DeltaTables) -> None:
    found = {one.table: one for one in tidy(tables, 200, now=NOON + timedelta(days=202))}
    assert found[DECISIONS].deleted == 2 * 4 * len(CROWD)
    assert set(history.read(tables)["decided_at"].to_pylist()) == {NOON + timedelta(days=2)}
    assert found[POLICIES].deleted == 0
    assert verify(tables).faults == ()


@pytest.mark.parametrize("days", [0, 182, 3654])
def test_a_retention_out_of_bounds_is_refused(days: int, tables: DeltaTables) -> None:
    with pytest.raises(DataError, match="expected 183 to 3653"):
        tidy(tables, days)
    assert len(history.read(tables)) == 4 * DAYS * len(CROWD)
