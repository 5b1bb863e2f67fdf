"""Decisions file by file: what was made of a file is used again, and goes with the file."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import dataset

from offers.contract.contract import Contract
from offers.decisions import history, log
from offers.decisions.erasure import erase
from offers.decisions.pieces import Pieces, Sample
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import KEY, NOON, answered, policy_event
from tests.support.rankers import CROWD, someone

EVERYTHING = dataset.scalar(True)


def shipped(contract: Contract, directory: Path, day: int, crowd: list[dict[str, object]] = CROWD) -> DeltaTables:
    """Append the decisions of a day, which is a file."""
    tables, spool = (
        DeltaTables.at(str(directory / "tables"), Settings()),
        Spool(directory / "s", f"pod-{day}", SpoolLimits()),
    )
    spool.append(policy_event(contract))
    spool.append(log.decided(answered(contract, crowd, 10_000 * day, NOON + timedelta(days=day))))
    spool.seal()
    assert not [one for one in ship(spool.directory, tables) if one.refusal]
    return tables


def test_a_later_look_reads_only_new_files(shop_contract: Contract, tmp_path: Path) -> None:
    pieces, handed = Pieces(), list[int]()

    def look() -> list[str]:
        def make(rows: pa.Table) -> pa.Table:
            handed.append(len(rows))
            return rows

        columns = ("decision_id", "customer", "latency_ms")
        found = pieces.read(tables, "ids", columns, make, EVERYTHING)
        assert tuple(found.column_names) == columns
        return sorted(found["decision_id"].to_pylist())

    tables = shipped(shop_contract, tmp_path, 0)
    assert look() == look()
    assert handed == [len(CROWD)]
    tables = shipped(shop_contract, tmp_path, 1)
    assert len(look()) == 2 * len(CROWD)
    assert handed == [len(CROWD)] * 2


def test_an_erased_customer_is_forgotten_with_the_file(shop_contract: Contract, tmp_path: Path) -> None:
    tables, pieces = shipped(shop_contract, tmp_path, 0), Pieces()

    def customers() -> set[str | None]:
        found = pieces.read(tables, "customers", ("customer",), lambda rows: rows, EVERYTHING)
        return set(found["customer"].to_pylist())

    assert KEY.of("A") in customers()
    erase(tables, KEY.of("A"), "asked for it")
    assert customers() == {KEY.of(name) for name in "BCDEF"} | {None}


def test_a_sample_has_all_decisions_about_its_customers(shop_contract: Contract, tmp_path: Path) -> None:
    crowd = [someone(f"customer-{k}") for k in range(400)]
    for day in range(2):
        tables = shipped(shop_contract, tmp_path, day, crowd)
    until = NOON + timedelta(days=9)
    rows, share = Sample(250).read(tables, ("decided_at", "decision_id", "customer"), None, until)
    assert share == 0.25
    limit = f"{16**12 // 4:012x}"
    expected = sorted(name for name in (KEY.of(f"customer-{k}") for k in range(400)) if name < limit)
    assert sorted(rows["customer"].to_pylist()) == sorted(2 * expected)
    assert rows["decided_at"].to_pylist() == sorted(rows["decided_at"].to_pylist())
    whole, all_of_them = Sample(800).read(tables, ("decided_at", "decision_id", "customer"), None, until)
    assert (len(whole), all_of_them) == (800, 1.0)
    second, _ = Sample(800).read(tables, ("decided_at", "decision_id"), NOON + timedelta(hours=1), until)
    assert len(second) == 400


@pytest.mark.parametrize("text", ['{"a.b/c":1.5,"word":"x\\"y","flag":true}', '{"a.b/c":null,"word":null,"flag":0}'])
def test_some_columns_are_read_as_all_are(shop_contract: Contract, text: str) -> None:
    number, word, flag = (
        next(column for column in shop_contract.inputs if column.type in kinds).model_copy(update={"name": name})
        for name, kinds in (("a.b/c", ("number", "integer")), ("word", ("category",)), ("flag", ("boolean",)))
    )
    contract = shop_contract.model_copy(update={"columns": (number, word, flag)})
    expected = history.inputs_of([text], contract)
    found = history.read_columns(pa.chunked_array([[text]]), [number, word, flag])
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
