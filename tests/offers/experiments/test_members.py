"""The members of an experiment, read back from the log of what was decided about them."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest

from offers.contract.contract import Contract
from offers.decisions import log
from offers.decisions.erasure import erase, verify
from offers.decisions.period import Period
from offers.decisions.pseudonym import Pseudonyms
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import DataError
from offers.experiments.comparison import compare
from offers.experiments.members import members
from offers.reports.experiment import notes
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import KEY, NOON, answered, outcome, policy_event
from tests.support.rankers import CROWD, policy_of, someone
from tests.support.warranties import WARRANTIES

LATER = NOON + timedelta(days=90)


def test_each_customer_is_one_row_with_what_came_of_all_decisions(shop_contract: Contract, tmp_path: Path) -> None:
    target = shop_contract.target.model_copy(update={"matures_after_days": 30})
    contract = shop_contract.model_copy(update={"target": target})
    tables, spool = DeltaTables.at(str(tmp_path / "tables"), Settings()), Spool(tmp_path / "s", "pod", SpoolLimits())
    spool.append(policy_event(contract))
    answers = [answered(contract, CROWD, 100 * day, NOON + timedelta(days=day), seed=day) for day in range(2)]
    # F is in the control first and then in the arm.
    arms = [["a", "control", "a", "a", "control", "control"], ["a", "control", "a", "a", "control", "a"]]
    for answer, names in zip(answers, arms, strict=True):
        spool.append(log.decided(replace(answer, experiment="e", arms=names)))
    spool.append(log.decided(answered(contract, CROWD, 200)))
    told = [outcome(f"{0:032x}"), outcome(f"{100:032x}", after=timedelta(days=2)), outcome(f"{201:032x}")]
    spool.append(log.observed(told, NOON + timedelta(days=3), "r"))
    spool.seal()
    assert not [one for one in ship(spool.directory, tables) if one.refusal]
    found = members(tables, "e", Period(None, LATER, LATER))
    assert (found.decisions, found.moved, found.erased) == (12, 1, 0)
    rows = found.customers.set_index("customer")
    assert {KEY.of(name) for name in "ABCDE"} == set(rows.index)
    a, d = rows.loc[KEY.of("A")], rows.loc[KEY.of("D")]
    assert (a["arm"], a["converted"], a["decisions"]) == ("a", 1, 2)
    offers = {offer.id: offer for offer in policy_of(contract, WARRANTIES).offers}
    firsts = [offers[orjson.loads(answer.answers[0])["offers"][0]["offer_id"]] for answer in answers]
    assert a["earned"] == sum(offer.value - offer.cost for offer in firsts)
    first = answers[0].propensity[0]
    assert a["covariate"] == pytest.approx(np.nanmean(first))
    # D gets no offer: that is known at once, and earns nothing.
    assert (d["converted"], d["earned"], d["exposed"]) == (0, 0, 0)
    assert found.keys == 1
    early = members(tables, "e", Period(None, LATER, NOON + timedelta(days=10))).customers
    assert early["converted"].isna().all()
    with pytest.raises(DataError, match="experiment 'f': expected decisions"):
        members(tables, "f", Period(None, LATER, LATER))


def test_customers_under_two_keys_count_twice_and_the_report_says_so(shop_contract: Contract, tmp_path: Path) -> None:
    tables, spool = DeltaTables.at(str(tmp_path / "tables"), Settings()), Spool(tmp_path / "s", "pod", SpoolLimits())
    spool.append(policy_event(shop_contract))
    for number, key in enumerate([KEY, Pseudonyms(bytes(32))]):
        answer = answered(shop_contract, CROWD, 100 * number)
        pseudonyms = [key.of(instance["customer_id"]) for instance in CROWD]
        customers = replace(answer.customers, pseudonyms=pseudonyms, key_id=key.key_id)
        arms = ["a", "control"] * (len(CROWD) // 2)
        spool.append(log.decided(replace(answer, customers=customers, experiment="e", arms=arms)))
    spool.seal()
    assert not [one for one in ship(spool.directory, tables) if one.refusal]
    found = members(tables, "e", Period(None, LATER, LATER))
    assert (found.keys, len(found.customers)) == (2, 2 * len(CROWD))
    said = " ".join(notes(found, compare(found.customers, {"a": 0.5, "control": 0.5}, found.protected)))
    assert "under 2 keys" in said


def test_ten_thousand_decisions_of_one_customer_are_one_row_beside_the_others(
    shop_contract: Contract, tmp_path: Path
) -> None:
    tables, spool = DeltaTables.at(str(tmp_path / "tables"), Settings()), Spool(tmp_path / "s", "pod", SpoolLimits())
    spool.append(policy_event(shop_contract))
    number, crowd = 10_000, [someone("Maria")] * 1_000
    for first in range(0, number, len(crowd)):
        answer = answered(shop_contract, crowd, first, seed=first)
        spool.append(log.decided(replace(answer, experiment="e", arms=["a"] * len(crowd))))
    spool.append(log.decided(replace(answered(shop_contract, CROWD, number), experiment="e", arms=["a"] * len(CROWD))))
    told = [outcome(f"{place:032x}") for place in range(number)]
    spool.append(log.observed(told, NOON + timedelta(days=1), "r"))
    spool.seal()
    assert not [one for one in ship(spool.directory, tables) if one.refusal]
    rows = members(tables, "e", Period(None, LATER, LATER)).customers.set_index("customer")
    assert len(rows) == 1 + len(CROWD)
    assert (rows.loc[KEY.of("Maria"), "decisions"], rows.loc[KEY.of("Maria"), "converted"]) == (number, 1)
    assert set(rows["decisions"].drop(KEY.of("Maria"))) == {1}
    assert erase(tables, KEY.of("Maria"), "she asked for it") == number
    assert (verify(tables).decisions, verify(tables).faults) == (number + len(CROWD), ())
