import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from offers.contract.contract import Contract
from offers.decisions import log
from offers.decisions.erasure import erase, verify
from offers.decisions.history import ledger_heads
from offers.decisions.records import (
    DECISIONS,
    OUTCOMES,
    POLICIES,
    QUARANTINE,
    SCHEMAS,
    collected,
    digest_of,
    root_of,
)
from offers.decisions.segment import framed, sealed
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import KEY, NOON, answered, outcome, policy_event
from tests.support.rankers import CROWD


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables.at(str(tmp_path / "tables"), Settings())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", "pod", SpoolLimits())


def rows(tables: DeltaTables, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tables.open(name).to_pyarrow_table().to_pylist()
    return sorted(found, key=lambda row: (row["segment"], row["place"]))


def shipped(spool: Spool, tables: DeltaTables) -> list[str]:
    """What was refused."""
    spool.seal()
    return [one.refusal for one in ship(spool.directory, tables) if one.refusal]


def test_tables_of_an_earlier_version_gain_columns_and_still_verify(
    shop_contract: Contract, spool: Spool, tables: DeltaTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = SCHEMAS[DECISIONS].remove(SCHEMAS[DECISIONS].get_field_index("ledger_head"))
    with monkeypatch.context() as patch:
        patch.setitem(SCHEMAS, DECISIONS, before)
        spool.append(log.decided(answered(shop_contract, CROWD)))
        assert shipped(spool, tables) == []
    assert ledger_heads(tables) == []
    head = f"7:{'a' * 64}"
    spool.append(log.decided(replace(answered(shop_contract, CROWD, 100), ledger_head=head)))
    assert shipped(spool, tables) == []
    assert [row["ledger_head"] for row in rows(tables, DECISIONS)] == [None] * len(CROWD) + [head] * len(CROWD)
    assert ledger_heads(tables) == [head]
    assert verify(tables).faults == ()
    tables.open(DECISIONS).update({"ledger_head": "NULL"}, predicate="ledger_head IS NOT NULL")
    assert len(verify(tables).faults) == len(CROWD)


def test_every_decision_is_a_row_that_says_what_was_asked_and_answered(
    shop_contract: Contract, spool: Spool, tables: DeltaTables
) -> None:
    answer = answered(shop_contract, CROWD)
    spool.append(policy_event(shop_contract))
    spool.append(log.decided(answer))
    assert shipped(spool, tables) == []
    assert sealed(spool.directory) == []
    found = rows(tables, DECISIONS)
    assert [row["answer"].encode() for row in found] == answer.answers
    assert [row["customer"] for row in found] == [KEY.of(instance["customer_id"]) for instance in CROWD]
    assert [row["decided_at"] for row in found] == [NOON] * len(CROWD)
    assert {row["date"] for row in found} == {NOON.date()}
    for row, instance, scores in zip(found, CROWD, answer.propensity, strict=True):
        inputs = orjson.loads(row["inputs"])
        assert inputs["spending"] == instance["customer"]["spending"]
        assert inputs["region"] == {"Atlantis": None}.get(*[instance["customer"]["region"]] * 2)
        assert inputs["rating"] == instance["context"]["rating"]
        by_offer = dict(zip(answer.offers, scores.tolist(), strict=True))
        assert {pair["offer_id"]: pair["propensity"] for pair in row["pairs"]} == {
            name: value for name, value in by_offer.items() if not math.isnan(value)
        }
        told = orjson.loads(row["answer"])
        shares = {entry["offer_id"]: entry["action_probability"] for entry in told["offers"] + told["withheld"]}
        assert all(pair["action_probability"] == shares[pair["offer_id"]] for pair in row["pairs"])
        assert row["offer_id"] == (told["offers"][0]["offer_id"] if told["offers"] else None)
    (kept,) = rows(tables, POLICIES)
    assert kept["catalogue"] == answer.catalogue


def test_nothing_names_a_customer(shop_contract: Contract, spool: Spool, tmp_path: Path) -> None:
    from tests.support.rankers import someone

    spool.append(log.decided(answered(shop_contract, [someone("Maria-Example-1970")])))
    spool.seal()
    (segment,) = sealed(spool.directory)
    assert b"Maria-Example" not in segment.path.read_bytes()


def test_a_foreign_engine_reads_the_tables(shop_contract: Contract, spool: Spool, tables: DeltaTables) -> None:
    for day in range(3):
        answer = answered(shop_contract, CROWD, first_id=100 * day, decided_at=NOON + timedelta(days=day))
        spool.append(log.decided(answer))
        assert shipped(spool, tables) == []
    paths = tables.open(DECISIONS).file_uris()
    assert len(paths) == 3
    query = f"""
        select cast(decided_at as date) as day, count(*), count(distinct customer), count(offer_id),
               sum(len(pairs)), bool_and(json_extract(answer, '$.decision_id') = '"' || decision_id || '"')
        from read_parquet({paths!r}) group by 1 order by 1
    """
    told = duckdb.sql(query).fetchall()
    ours = rows(tables, DECISIONS)
    assert [day for day, *_ in told] == [(NOON + timedelta(days=day)).date() for day in range(3)]
    assert {count for _, count, *_ in told} == {len(CROWD)}
    assert sum(pairs for *_, pairs, _ in told) == sum(len(row["pairs"]) for row in ours)
    assert all(fits for *_, fits in told)


def test_the_log_verifies(shop_contract: Contract, spool: Spool, tables: DeltaTables) -> None:
    for k in range(3):
        spool.append(log.decided(answered(shop_contract, CROWD, first_id=10 * k, seed=k)))
        assert shipped(spool, tables) == []
    found = rows(tables, DECISIONS)
    assert [digest_of(row) for row in found] == [row["digest"] for row in found]
    for number in range(3):
        segment = [row for row in found if row["segment"] == number]
        assert {row["root"] for row in segment} == {root_of(row["digest"] for row in segment)}
    assert digest_of(found[0] | {"offer_id": "another"}) != found[0]["digest"]


def test_tables_of_an_earlier_version_get_the_callers_column(
    shop_contract: Contract, spool: Spool, tables: DeltaTables
) -> None:
    event = orjson.loads(log.decided(answered(shop_contract, CROWD)))
    del event["data"]["caller"]
    table = collected([orjson.dumps(event)], "old", 0).tables()[DECISIONS]
    earlier = table.drop_columns(["caller"])
    tables.append(DECISIONS, earlier, "old", 0, ("date",))
    assert verify(tables).faults == ()
    assert erase(tables, KEY.of(CROWD[0]["customer_id"]), "asked") == 1
    spool.append(log.decided(replace(answered(shop_contract, CROWD, 10), caller="shop")))
    assert shipped(spool, tables) == []
    # A shipper of the earlier version, beside one of this.
    tables.append(DECISIONS, earlier, "older", 0, ("date",), widen=["caller"])
    found = {
        writer: {row["caller"] for row in rows(tables, DECISIONS) if row["writer"] == writer}
        for writer in ("old", "pod")
    }
    assert found == {"old": {None}, "pod": {"shop"}}
    assert verify(tables).erased == 1
    assert [fault for fault in verify(tables).faults if "pod" in fault] == []


def test_killed_between_two_tables_and_shipped_again_each_row_is_there_once(
    shop_contract: Contract, spool: Spool, tables: DeltaTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = answered(shop_contract, CROWD)
    told = [outcome(f"{k:032x}") for k in range(3)]
    for line in (
        policy_event(shop_contract),
        log.decided(answer),
        log.observed(told, NOON + timedelta(days=1), "r"),
    ):
        spool.append(line)
    spool.seal()
    append = DeltaTables.append

    class Killed(BaseException):
        pass

    def dies(after: str) -> Callable[..., bool]:
        def appended(self: DeltaTables, name: str, *more: Any, **options: Any) -> bool:
            done = append(self, name, *more, **options)
            if name == after:
                raise Killed
            return done

        return appended

    for after in (POLICIES, DECISIONS, OUTCOMES):
        with monkeypatch.context() as patch:
            patch.setattr(DeltaTables, "append", dies(after))
            with pytest.raises(Killed):
                list(ship(spool.directory, tables))
        assert len(sealed(spool.directory)) == 1
    assert [one.refusal for one in ship(spool.directory, tables)] == [""]
    assert len(rows(tables, DECISIONS)) == len(CROWD)
    assert len(rows(tables, OUTCOMES)) == 3
    assert len(rows(tables, POLICIES)) == 1


def test_damaged_and_foreign_lines_are_quarantined_and_stop_nothing(
    shop_contract: Contract, spool: Spool, tables: DeltaTables
) -> None:
    good = log.decided(answered(shop_contract, CROWD))
    event = orjson.loads(good)
    foreign = [
        b"no JSON",
        b"[1]",
        orjson.dumps(event | {"type": "offers.decided.v2"}),
        orjson.dumps(event | {"data": {}}),
        orjson.dumps(event | {"time": "yesterday"}),
        orjson.dumps(event | {"data": event["data"] | {"customers": ["one"]}}),
    ]
    for line in (*foreign, good):
        spool.append(line)
    spool.seal()
    (segment,) = sealed(spool.directory)
    altered = framed(good).replace(b"shop-1", b"shop-2")
    segment.path.write_bytes(segment.path.read_bytes() + altered + framed(good)[:100])
    assert shipped(spool, tables) == []
    assert len(rows(tables, DECISIONS)) == len(CROWD)
    kept = rows(tables, QUARANTINE)
    assert [row["content"] for row in kept[: len(foreign)]] == [line.decode() for line in foreign]
    assert [row["reason"].partition(": ")[2] for row in kept[len(foreign) :]] == [
        "length or checksum does not fit",
        "torn",
    ]
    assert "offers.decided.v1" in kept[2]["reason"]


def test_an_outcome_from_the_future_is_quarantined(spool: Spool, tables: DeltaTables) -> None:
    told = [outcome("a" * 32, after=timedelta(minutes=minutes)) for minutes in (4, 6)]
    spool.append(log.observed(told, NOON, "r"))
    assert shipped(spool, tables) == []
    (row,) = rows(tables, OUTCOMES)
    assert row["observed_at"] == NOON + timedelta(minutes=4)
    (kept,) = rows(tables, QUARANTINE)
    assert kept["reason"].startswith("from the future: observed 2024-02-29T12:06:00+00:00, received 2024-02-29T12:00")
    assert orjson.loads(kept["content"])["decision_id"] == "a" * 32


def test_a_refused_segment_stays_and_the_next_is_shipped(
    shop_contract: Contract, spool: Spool, tables: DeltaTables
) -> None:
    import pyarrow as pa

    tables.append(OUTCOMES, pa.table({"foreign": [1]}), "somebody", 0)
    spool.append(log.observed([outcome("a" * 32)], NOON + timedelta(days=1), "r"))
    spool.seal()
    spool.append(log.decided(answered(shop_contract, CROWD)))
    (refusal,) = shipped(spool, tables)
    assert "outcomes: the table can't be read or written" in refusal
    assert [segment.number for segment in sealed(spool.directory)] == [0]
    assert len(rows(tables, DECISIONS)) == len(CROWD)


def test_the_tables_have_the_columns_that_are_declared(
    shop_contract: Contract, spool: Spool, tables: DeltaTables
) -> None:
    spool.append(log.decided(answered(shop_contract, CROWD)))
    assert shipped(spool, tables) == []
    assert tables.open(DECISIONS).to_pyarrow_table().schema.names == SCHEMAS[DECISIONS].names
    assert tables.open(DECISIONS).metadata().partition_columns == ["date"]
