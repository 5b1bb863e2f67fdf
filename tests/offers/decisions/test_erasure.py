from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from offers.contract.contract import Contract
from offers.decisions import history, log
from offers.decisions.erasure import erase, verify
from offers.decisions.records import DECISIONS, QUARANTINE
from offers.decisions.reproduction import redo
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import DataError
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import KEY, NOON, answered, outcome, policy_event
from tests.support.rankers import someone

MARIA = KEY.of("Maria")
QUARANTINED = orjson.dumps(outcome("b" * 32, after=timedelta(days=9))).decode()
LATER = NOON + timedelta(days=1)


@pytest.fixture
def tables(shop_contract: Contract, tmp_path: Path) -> DeltaTables:
    """Two segments; Maria, whose spending nobody else has, is in both, and what was said of her is in an outcome."""
    spool = Spool(tmp_path / "spool", "pod", SpoolLimits())
    tables = DeltaTables.at(str(tmp_path / "tables"), Settings())
    spool.append(policy_event(shop_contract))
    for k in range(2):
        crowd = [someone("Ann"), someone("Maria", spending=4321.125), someone("Bob", spending=20.0)]
        spool.append(log.decided(answered(shop_contract, crowd, 10 * k, seed=k)))
        spool.append(log.observed([outcome(f"{10 * k + 1:032x}", "overridden", why="moved to Graz")], LATER, f"r{k}"))
        early = outcome(f"{10 * k + 1:032x}", "overridden", after=timedelta(days=9), why="moved to Graz")
        spool.append(log.observed([early, outcome("b" * 32, after=timedelta(days=9))], LATER, "q"))
        spool.seal()
        assert not [one for one in ship(spool.directory, tables) if one.refusal]
    return tables


def bytes_below(tables: DeltaTables) -> bytes:
    """All files, those of Parquet as plain text: a foreign engine prints what they hold."""
    import duckdb

    found = b""
    for path in Path(tables.root).rglob("*"):
        if path.suffix == ".parquet" and "_delta_log" not in path.parts:
            found += repr(duckdb.sql(f"select * from read_parquet('{path}')").fetchall()).encode()
        if path.is_file():
            found += path.read_bytes()
    return found


def test_nothing_of_the_customer_is_left_and_the_log_still_verifies(tables: DeltaTables) -> None:
    before = bytes_below(tables)
    assert all(trace in before for trace in (MARIA.encode(), b"4321.125", b"moved to Graz"))
    whole = verify(tables)
    assert (whole.decisions, whole.segments, whole.erased, whole.faults) == (6, 2, 0, ())
    assert erase(tables, MARIA, "she asked for it") == 2
    after = bytes_below(tables)
    assert not [trace for trace in (MARIA.encode(), b"4321.125", b"moved to Graz") if trace in after]
    assert KEY.of("Ann").encode() in after
    assert tables.open(QUARANTINE).to_pyarrow_table()["content"].to_pylist() == [QUARANTINED] * 2
    left = verify(tables)
    assert (left.decisions, left.segments, left.erased, left.faults) == (6, 2, 2, ())
    history_of = tables.open(DECISIONS).history()
    assert "she asked for it" in orjson.dumps(history_of, default=str).decode()
    assert len(history.read(tables, where=history.of_customer(KEY.of("Ann")))) == 2
    assert len(history.read(tables, where=history.of_customer(MARIA))) == 0
    again = redo(history.read(tables), history.kept(tables))
    assert (again.decisions, again.erased, again.holds) == (4, 2, True)


def test_who_is_not_in_the_log_is_told(tables: DeltaTables) -> None:
    with pytest.raises(DataError, match="no decision about this customer"):
        erase(tables, KEY.of("nobody"), "asked")
    with pytest.raises(DataError, match="expected a pseudonym"):
        erase(tables, "' OR true OR '", "asked")
    assert verify(tables).erased == 0


@pytest.mark.parametrize("column", ["offer_id", "inputs", "digest"])
def test_what_is_altered_later_is_found(column: str, tables: DeltaTables) -> None:
    tables.open(DECISIONS).update({column: "'other'"}, predicate=f"customer = '{MARIA}'")
    assert len(verify(tables).faults) >= 2


def test_a_removed_decision_is_found(tables: DeltaTables) -> None:
    tables.open(DECISIONS).delete(f"customer = '{MARIA}' AND segment = 0")
    (fault,) = verify(tables).faults
    assert "missing" in fault
