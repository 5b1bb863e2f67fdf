"""Which entry may come after which: approvals by two other keys, one promotion at a time, a way back."""

from datetime import timedelta
from pathlib import Path

import pytest

from offers.errors import LedgerError
from offers.governance import approval
from offers.governance.entries import (
    Act,
    Approved,
    CatalogueChanged,
    GateJudged,
    Promoted,
    Promoting,
    Rejected,
    ReleaseMade,
    Returned,
    RolledBack,
)
from offers.governance.state import state_of
from offers.store.directory import DirectoryStore
from tests.support.ledgers import Bank, key_added, signer


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(DirectoryStore(tmp_path))


def status(bank: Bank, release: str) -> str:
    state = bank.ledger.state()
    return state.status(state.releases[release], bank.clock.moment)


def refused(bank: Bank, name: str, act: Act, sentence: str) -> None:
    before = bank.ledger.head
    with pytest.raises(LedgerError, match=sentence):
        bank.write(name, act)
    assert bank.ledger.head == before


def approved(bank: Bank, release: str, days: float = 90) -> Approved:
    return Approved(release=release, evidence={}, until=bank.clock.moment + timedelta(days=days))


def test_two_other_keys_approve(bank: Bank) -> None:
    release = bank.made(1)
    assert status(bank, release) == "candidate"
    bank.approve(release, "ann")
    assert status(bank, release) == "candidate"
    refused(bank, "ann", approved(bank, release), f"ann has approved release {release} already")
    refused(bank, "olga", Promoting(release=release), "it is approved by 1 of 2 people")
    bank.approve(release, "bob")
    assert status(bank, release) == "approved"


def test_who_trained_does_not_approve(bank: Bank) -> None:
    """Nor a release of the same bundle that somebody else has made."""
    for name in ("eve", "mallory"):
        bank.write("root", key_added(name, "trainer", "approver", "operator"))
    evidence = {"gate.json": "0" * 64}
    bank.write("eve", GateJudged(contract="shop", bundle="shop-1", passed=True, evidence=evidence))
    release = bank.made(1)
    made = next(entry.act for entry in bank.ledger.entries() if isinstance(entry.act, ReleaseMade))
    bank.write("mallory", made.model_copy(update={"release": "shop-release-x", "bundle": "shop-1"}))
    refused(bank, "eve", approved(bank, "shop-release-x"), "eve has made release shop-release-x, and another has to")
    refused(bank, "mallory", approved(bank, "shop-release-x"), "mallory has made release shop-release-x")
    refused(bank, "trainer", approved(bank, release), "trainer has no role approver")


def test_where_the_gate_decides_nobody_has_to(bank: Bank) -> None:
    release = bank.made(1, people=0)
    assert status(bank, release) == "approved"
    bank.promote(release)
    assert status(bank, release) == "champion"


def test_what_the_gate_refused_is_no_release(bank: Bank) -> None:
    bank.made(1)
    made = next(entry.act for entry in bank.ledger.entries() if isinstance(entry.act, ReleaseMade))
    refused(bank, "trainer", made, "is there already")
    unjudged = made.model_copy(update={"release": "shop-release-2", "bundle": "shop-2"})
    refused(bank, "trainer", unjudged, "no gate has judged bundle shop-2")
    bank.write("trainer", GateJudged(contract="shop", bundle="shop-2", passed=False, evidence={}))
    refused(bank, "trainer", unjudged, "bundle shop-2 did not pass the gate")


def test_an_approval_lapses_and_a_champion_goes_on(bank: Bank) -> None:
    first = bank.champion(1)
    second = bank.made(2)
    bank.approve(second, days=30)
    bank.clock.moment += timedelta(days=40)
    assert (status(bank, first), status(bank, second)) == ("champion", "lapsed")
    refused(bank, "olga", Promoting(release=second), "it is lapsed: its approvals have run out")
    bank.approve(second, "ann", "bob")
    bank.promote(second)
    bank.clock.moment += timedelta(days=100)
    champion = bank.ledger.state().champion("shop")
    assert champion is not None
    assert champion.name == second
    lapses = champion.lapses(bank.clock.moment)
    assert lapses is not None
    assert lapses < bank.clock.moment
    approval.finish(bank.ledger, signer("olga"), approval.begin_back(bank.ledger, signer("olga"), "shop", "it is old"))
    assert status(bank, first) == "champion"


def test_an_approval_is_for_the_future_and_no_longer_than_the_contract_says(bank: Bank) -> None:
    release = bank.made(1)
    for days in (-1, 91):
        refused(bank, "ann", approved(bank, release, days), "expected a day after it is given, within 90 days")


def test_a_rejected_release_is_out(bank: Bank) -> None:
    release = bank.made(1)
    bank.approve(release)
    bank.write("ann", Rejected(release=release, reason="unfair to the old"))
    assert status(bank, release) == "rejected"
    refused(bank, "bob", approved(bank, release), "was rejected: unfair to the old")
    refused(bank, "olga", Promoting(release=release), "it is rejected")


def test_a_champion_is_not_rejected(bank: Bank) -> None:
    release = bank.champion(1)
    refused(bank, "ann", Rejected(release=release, reason="x"), "serves, or is about to; roll it back")
    second = bank.made(2)
    bank.approve(second)
    bank.write("olga", Promoting(release=second))
    refused(bank, "ann", Rejected(release=second, reason="x"), "serves, or is about to; roll it back")


def test_two_promotions_at_once_one_is_told_by_whom(bank: Bank) -> None:
    first, second = bank.made(1), bank.made(2)
    bank.approve(first)
    bank.approve(second)
    begun = bank.write("olga", Promoting(release=first))
    refused(bank, "olga", Promoting(release=second), f"is under way, begun by olga by entry {begun.number}")
    refused(bank, "olga", Promoted(release=second), f"no promotion of release {second} is under way")
    refused(bank, "olga", RolledBack(release=first, withdrawn=second), "has begun a promotion, not what this ends")
    bank.write("olga", Returned(release=first, reason="its predictor did not start"))
    assert status(bank, first) == "approved"
    assert bank.ledger.state().champion("shop") is None
    bank.promote(second)


def test_the_champion_is_not_promoted_again(bank: Bank) -> None:
    release = bank.champion(1)
    refused(bank, "olga", Promoting(release=release), "is the champion already")


def test_a_rollback_returns_to_the_one_before_and_withdraws(bank: Bank) -> None:
    first, second, third = bank.champion(1), bank.champion(2), bank.champion(3)
    begun = approval.begin_back(bank.ledger, signer("olga"), "shop", "errors")
    assert begun.act == Promoting(release=second, back=True, reason="errors")
    approval.finish(bank.ledger, signer("olga"), begun)
    assert [status(bank, name) for name in (first, second, third)] == ["former", "champion", "withdrawn"]
    refused(bank, "olga", Promoting(release=third), "it is withdrawn")
    fourth = bank.champion(4)
    former = bank.ledger.state().former("shop")
    assert former is not None
    assert former.name == second
    approval.finish(bank.ledger, signer("olga"), approval.begin_back(bank.ledger, signer("olga"), "shop", "errors"))
    approval.finish(bank.ledger, signer("olga"), approval.begin_back(bank.ledger, signer("olga"), "shop", "errors"))
    assert [status(bank, name) for name in (first, second, third, fourth)] == ["champion"] + ["withdrawn"] * 3
    with pytest.raises(LedgerError, match="there is no former champion to return to"):
        approval.begin_back(bank.ledger, signer("olga"), "shop", "errors")


def test_a_withdrawn_release_needs_new_approvals(bank: Bank) -> None:
    bank.champion(1)
    second = bank.champion(2)
    approval.finish(bank.ledger, signer("olga"), approval.begin_back(bank.ledger, signer("olga"), "shop", "errors"))
    bank.approve(second, "ann")
    assert status(bank, second) == "withdrawn"
    bank.approve(second, "bob")
    bank.promote(second)
    assert status(bank, second) == "champion"


def test_a_former_champion_may_be_promoted_again(bank: Bank) -> None:
    first, second = bank.champion(1), bank.champion(2)
    bank.promote(first)
    former = bank.ledger.state().former("shop")
    assert former is not None
    assert (former.name, status(bank, second)) == (second, "former")


def test_the_challenger_is_the_newest_that_might_serve(bank: Bank) -> None:
    bank.made(1)
    bank.champion(2)
    assert bank.ledger.state().challenger("shop") is None
    third, fourth = bank.made(3), bank.made(4)
    challenger = bank.ledger.state().challenger("shop")
    assert challenger is not None
    assert challenger.name == fourth
    bank.write("ann", Rejected(release=fourth, reason="x"))
    challenger = bank.ledger.state().challenger("shop")
    assert challenger is not None
    assert challenger.name == third


def test_unknown_releases_are_named(bank: Bank) -> None:
    for name, act in (
        ("ann", approved(bank, "shop-release-9")),
        ("olga", Promoting(release="shop-release-9")),
        ("olga", Promoted(release="shop-release-9")),
    ):
        refused(bank, name, act, "release shop-release-9")
    bank.made(1)
    bank.made(2)
    with pytest.raises(LedgerError, match="release 'shop-release-000': there is no such release; it begins shop-rel"):
        bank.ledger.state().release("shop-release-000")
    assert bank.ledger.state().release("shop-release-0000000000000001").act.bundle == "shop-0000000000000001"


def test_the_state_is_a_function_of_the_entries(bank: Bank) -> None:
    bank.champion(1)
    bank.champion(2)
    one, other = state_of(bank.ledger.entries()), bank.ledger.state()
    assert vars(one) == vars(other)


def test_a_catalogue_changes_only_from_what_the_ledger_knows(bank: Bank) -> None:
    first, second = "1" * 64, "2" * 64
    change = CatalogueChanged(contract="shop", catalogue="dearer-2", before=first, after=second)
    refused(bank, "trainer", change, "catalogue dearer-2 replaces none of contract shop that the ledger knows")
    bank.made(1)
    made = next(entry.act for entry in bank.ledger.entries() if isinstance(entry.act, ReleaseMade))
    update = {"release": "shop-release-x", "evidence": {"catalogue.yaml": first}}
    bank.write("trainer", made.model_copy(update=update))
    refused(bank, "ann", change, "ann has no role trainer or operator")
    bank.write("olga", change)
    assert bank.ledger.state().catalogues == {"shop": second}
    refused(bank, "olga", change, "replaces none")
