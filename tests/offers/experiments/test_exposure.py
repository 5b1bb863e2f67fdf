"""Who was made an offer, by group, from the decision log: held against shares that the test chose."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from offers.contract.contract import Contract
from offers.decisions import log
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import SourceError
from offers.experiments.exposure import exposure
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import NOON, answered, policy_event
from tests.support.rankers import someone


@pytest.fixture
def tables(shop_contract: Contract, tmp_path: Path) -> DeltaTables:
    """400 members, 300 of whom may be made an offer, and 400 others; two of these have no offer worth its cost."""
    spool = Spool(tmp_path / "spool", "pod", SpoolLimits())
    spool.append(policy_event(shop_contract))
    # Who has not visited yet is not a customer, by the catalogue's rule.
    members = [someone(f"member-{k}", member=True, visits=0 if k < 100 else 3) for k in range(400)]
    others = [someone(f"other-{k}", member=False) for k in range(400)]
    answer = answered(shop_contract, members + others)
    spool.append(log.decided(answer))
    # Made by another bundle, so it does not count.
    spool.append(log.decided(replace(answered(shop_contract, members[:100], 5000), model="shop-2")))
    # One customer twice, the second time with an offer.
    spool.append(log.decided(answered(shop_contract, [someone("member-0")], 6000, NOON + timedelta(hours=1))))
    spool.seal()
    directory = tmp_path / "tables"
    assert not [one for one in ship(spool.directory, DeltaTables.at(str(directory), Settings())) if one.refusal]
    return DeltaTables.at(str(directory), Settings())


def test_the_share_of_each_group_that_was_made_an_offer(tables: DeltaTables, shop_contract: Contract) -> None:
    columns = tuple(
        column.model_copy(update={"protected": column.name == "member"}) for column in shop_contract.columns
    )
    contract = shop_contract.model_copy(update={"columns": columns})
    version = answered(shop_contract, [someone("x")]).catalogue
    measured = exposure(tables, "shop-1", version, contract, NOON + timedelta(days=2))
    assert measured.decisions == 801
    groups = {one.group: one for one in measured.groups}
    assert {one.column for one in measured.groups} == {"member"}
    assert {group: (one.customers, one.share, one.verdict) for group, one in groups.items()} == {
        "1.0": (400, 301 / 400, "fails"),
        "0.0": (400, 398 / 400, "passes"),
    }
    assert groups["1.0"].ratio == 301 / 398
    later = exposure(tables, "shop-1", version, contract, NOON + timedelta(days=90))
    assert (later.decisions, later.groups) == (0, ())


def test_where_there_is_no_log(shop_contract: Contract, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="decisions"):
        exposure(DeltaTables.at(str(tmp_path / "none"), Settings()), "shop-1", "warranties-1", shop_contract, NOON)
