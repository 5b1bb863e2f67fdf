from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest

from offers.contract.contract import Contract
from offers.decisions import log
from offers.decisions.period import Period
from offers.decisions.scored import OUTCOME_COLUMNS, SCORED_COLUMNS, read_outcomes, read_scored, served
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import DataError, SourceError
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import KEY, NOON, answered, outcome, policy_event
from tests.support.rankers import CROWD, policy_of
from tests.support.warranties import WARRANTIES

DAY = timedelta(days=1)


@pytest.fixture
def tables(shop_contract: Contract, tmp_path: Path) -> str:
    """Two requests a day apart, and outcomes of the first three decisions."""
    spool = Spool(tmp_path / "spool", "pod", SpoolLimits())
    spool.append(policy_event(shop_contract))
    for day in range(2):
        answer = answered(shop_contract, CROWD, first_id=100 * day, decided_at=NOON + day * DAY, seed=day)
        spool.append(log.decided(answer))
    told = [outcome(f"{k:032x}", kind, after=DAY / 2) for k, kind in enumerate(["accepted", "declined", "clicked"])]
    spool.append(log.observed(told, NOON + 2 * DAY, "r"))
    spool.seal()
    where = str(tmp_path / "tables")
    assert not [one for one in ship(spool.directory, DeltaTables.at(where, Settings())) if one.refusal]
    return where


def test_each_scored_decision_is_a_row_with_its_first_offer(shop_contract: Contract, tables: str) -> None:
    frame = read_scored(tables, shop_contract, Settings()).frame
    assert list(frame) == [*SCORED_COLUMNS, *(column.name for column in shop_contract.inputs)]
    policy = policy_of(shop_contract, WARRANTIES)
    channels = {offer.id: offer.attributes["channel"] for offer in policy.offers}
    wanted = []
    for day in range(2):
        answer = answered(shop_contract, CROWD, first_id=100 * day, decided_at=NOON + day * DAY, seed=day)
        for place, instance in enumerate(CROWD):
            known = np.flatnonzero(~np.isnan(answer.propensity[place]))
            if known.size:
                wanted.append((instance["customer_id"], answer, place, known))
    # D and E have no eligible offer and were not scored.
    assert len(frame) == len(wanted) == 2 * (len(CROWD) - 2)
    for row, (customer, answer, place, known) in zip(frame.to_dict("records"), wanted, strict=True):
        assert row["customer_id"] == KEY.of(customer)
        assert row["scored_at"] == answer.decided_at
        assert row["bundle"] == "shop-1"
        first = [answer.offers[k] for k in known if answer.propensity[place, k] == row["_propensity"]]
        assert row["channel"] in [channels[offer] for offer in first]
        columns = orjson.loads(answer.customers.columns)
        assert row["spending"] == columns["spending"][place]
        assert row["region"] == columns["region"][place]


def test_a_period_begins_and_names_its_bundle(shop_contract: Contract, tables: str) -> None:
    since = NOON + DAY / 2
    frame = read_scored(tables, shop_contract, Settings(), since).frame
    assert (frame["scored_at"] == NOON + DAY).all()
    assert served(tables, Period(since, NOON + 2 * DAY, NOON + 2 * DAY), Settings()) == "shop-1"
    with pytest.raises(DataError, match="expected rows scored"):
        served(tables, Period(NOON + 2 * DAY, NOON + 3 * DAY, NOON + 3 * DAY), Settings())


def test_outcomes_are_what_was_told_and_silence_once_the_window_has_passed(tables: str) -> None:
    told = read_outcomes(tables, Settings()).frame
    assert list(told) == list(OUTCOME_COLUMNS)
    assert dict(zip(told["decision_id"], told["outcome"], strict=True)) == {f"{0:032x}": True, f"{1:032x}": False}
    assert (told["observed_at"] == NOON + DAY / 2).all()
    month = read_outcomes(tables, Settings(), 30 * DAY).frame.set_index("decision_id")
    offered = read_outcomes(tables, Settings(), 30 * DAY).frame["decision_id"]
    assert len(offered) == 2 * (len(CROWD) - 2)
    assert month["outcome"].sum() == 1
    assert month.loc[f"{2:032x}", "observed_at"] == NOON + 30 * DAY
    assert month.loc[f"{101:032x}", "observed_at"] == NOON + 31 * DAY
    assert isinstance(month["observed_at"].dtype, pd.DatetimeTZDtype)


def test_where_there_is_no_log_nothing_is_made(shop_contract: Contract, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        read_scored(str(tmp_path / "nowhere"), shop_contract, Settings())
    assert list(tmp_path.iterdir()) == []
