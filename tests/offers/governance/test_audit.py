"""Every kind of tampering with a ledger is found, and named by its entry."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from offers.errors import LedgerError
from offers.governance import approval
from offers.governance.audit import heads_in, verify
from offers.governance.chain import signed
from offers.governance.entries import CanaryPlan, GateJudged, Head, KeyWithdrawn, Promoted, digest_of
from offers.governance.ledger import key_of
from offers.retraining.journal import Journal, Request
from offers.retraining.retrainer import Retrainer
from offers.store.directory import DirectoryStore
from tests.support.ledgers import Bank, signer


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """A ledger of eleven entries: five keys, two releases with their gates, two approvals."""
    bank = Bank(DirectoryStore(tmp_path))
    bank.made(1)
    bank.approve(bank.made(2))
    return bank


@pytest.fixture
def head(bank: Bank) -> Head:
    assert bank.ledger.head is not None
    return bank.ledger.head


def problems(bank: Bank, *heads: Head) -> list[str]:
    return list(map(str, verify(bank.store, heads).problems))


def test_a_whole_ledger_holds(bank: Bank, head: Head) -> None:
    audit = verify(bank.store, [head])
    assert (audit.holds, audit.entries, audit.head, audit.notes) == (True, 11, head, ())


def test_without_a_head_it_says_what_is_not_proved(bank: Bank) -> None:
    (note,) = verify(bank.store).notes
    assert note.startswith("no head was given")


def test_an_old_head_proves_what_is_before_it(bank: Bank, head: Head) -> None:
    bank.made(3)
    audit = verify(bank.store, [head])
    assert audit.holds
    assert audit.notes == ("the newest head given is of entry 10: that entries 11 to 12 are the last is not proved",)


def test_every_byte_counts(bank: Bank, tmp_path: Path) -> None:
    for number in range(11):
        path = tmp_path / key_of(number)
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert verify(bank.store).problems[0].number == number, (number, place)
        path.write_bytes(whole)
    assert verify(bank.store).holds


def test_every_byte_of_a_canary_and_of_a_retraining_counts(bank: Bank, tmp_path: Path) -> None:
    bank.champion(3)
    second = bank.ledger.state().releases["shop-release-0000000000000002"].name
    plan = CanaryPlan(shares=(0.5,), seconds=60, customers=200)
    first = approval.begin(bank.ledger, signer("olga"), second, plan).number
    for share in (0.5, 1.0):
        approval.step(bank.ledger, signer("olga"), second, share, "500 customers of challenger; all passes")
    bank.write("olga", Promoted(release=second))
    journal = Journal(bank.ledger, lambda: signer("trainer"), "shop")
    request = Request(id="a1", contract="shop", cause="alarm", evidence={"reasons": ["age: KS distance 0.31"]})
    journal.ended(Retrainer(journal, lambda request, run: None).ask(request).run, succeeded=True, bundle="b/shop-1")
    kinds = [entry.act.kind for entry in bank.ledger.entries()[first:]]
    assert kinds == ["promoting", *["canary step"] * 2, "promoted", "retraining decided", "retraining ended"]
    for number in range(first, first + len(kinds)):
        path = tmp_path / key_of(number)
        whole = path.read_bytes()
        for place in range(0, len(whole), 11):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert verify(bank.store).problems[0].number == number, (number, place)
        path.write_bytes(whole)
    assert verify(bank.store).holds


def test_a_removed_entry_is_named(bank: Bank, tmp_path: Path) -> None:
    (tmp_path / key_of(9)).unlink()
    assert problems(bank) == ["entry 9: it is missing"]


def test_two_that_were_swapped_are_both_named(bank: Bank, tmp_path: Path) -> None:
    first, second = tmp_path / key_of(5), tmp_path / key_of(7)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert {"entry 5: it is entry 7, in the place of another", "entry 7: it is entry 5, in the place of another"} < set(
        problems(bank)
    )


def test_the_cut_tail_needs_a_head(bank: Bank, head: Head, tmp_path: Path) -> None:
    for number in (9, 10):
        (tmp_path / key_of(number)).unlink()
    assert verify(bank.store).holds
    gone = f"entry 9: the end was cut: a head kept elsewhere is of {head}, and entries 9 to 10 are gone"
    assert problems(bank, head) == [gone]
    old = Head(number=8, digest=digest_of((tmp_path / key_of(8)).read_bytes()))
    assert problems(bank, old) == []
    assert problems(bank, old, head) == [gone]


def test_a_ledger_rewritten_whole_needs_a_head(bank: Bank, head: Head, tmp_path: Path) -> None:
    rewritten = Bank(DirectoryStore(tmp_path / "other"))
    for number in (1, 5, 6):
        rewritten.made(number)
    for path in (tmp_path / "other" / "ledger").iterdir():
        (tmp_path / "ledger" / path.name).write_bytes(path.read_bytes())
    assert verify(bank.store).holds
    (problem,) = problems(bank, head)
    assert problem.startswith("entry 10: a head kept elsewhere says ")
    assert problem.endswith(": the ledger was rewritten here or before")


def test_an_emptied_ledger_needs_a_head(bank: Bank, head: Head, tmp_path: Path) -> None:
    for path in (tmp_path / "ledger").iterdir():
        path.unlink()
    assert verify(bank.store).holds
    (problem,) = problems(bank, head)
    assert problem.startswith("entry 0: the end was cut")


def forge(bank: Bank, name: str, **changes: object) -> None:
    """Write an entry past the ledger's own rules."""
    head = bank.ledger.head
    assert head is not None
    act = GateJudged(contract="shop", bundle="shop-1", passed=True, evidence={}).model_copy(update=changes)
    content = signed(head.number + 1, head.digest, act, signer(name), bank.clock().isoformat())
    assert bank.store.create(key_of(head.number + 1), content)


def test_an_unknown_key_is_named(bank: Bank) -> None:
    forge(bank, "eve")
    assert problems(bank) == [
        f"entry 11: it is signed by key {signer('eve').public.id}, which no entry before it has added"
    ]


def test_a_withdrawn_key_is_named(bank: Bank) -> None:
    bank.write("root", KeyWithdrawn(key=signer("trainer").public.id, reason="lost"))
    forge(bank, "trainer")
    assert problems(bank) == [f"entry 12: key {signer('trainer').public.id} of trainer was withdrawn by entry 11"]


def test_a_key_without_the_role_is_named(bank: Bank) -> None:
    forge(bank, "ann")
    assert problems(bank) == ["entry 11: ann has no role trainer, which 'gate' asks for; it has approver"]


def test_a_replaced_entry_is_named_by_the_one_after(bank: Bank, tmp_path: Path) -> None:
    """Signed anew by a key that may: the entry holds by itself, and the next one tells."""
    fields = json.loads((tmp_path / key_of(5)).read_bytes())
    act = GateJudged.model_validate(fields["act"]).model_copy(update={"evidence": {"gate.json": "0" * 64}})
    (tmp_path / key_of(5)).write_bytes(signed(5, fields["before"], act, signer("trainer"), fields["at"]))
    assert problems(bank) == ["entry 6: it does not follow entry 5, which was replaced after this one was written"]


@pytest.mark.parametrize("act", ["swap", "drop", "alter"])
def test_one_problem_does_not_hide_another(bank: Bank, tmp_path: Path, act: str) -> None:
    deeds: dict[str, Callable[[Path], object]] = {
        "swap": lambda path: path.write_bytes((tmp_path / key_of(5)).read_bytes()),
        "drop": lambda path: path.unlink(),
        "alter": lambda path: path.write_bytes(path.read_bytes().replace(b"shop", b"shoq")),
    }
    (tmp_path / key_of(6)).unlink()
    deeds[act](tmp_path / key_of(8))
    assert {6, 8} <= {problem.number for problem in verify(bank.store).problems}


def test_heads_are_read_from_any_text(head: Head) -> None:
    assert heads_in(f"x\n{head}\nledger {head} of today") == [head, head]
    with pytest.raises(LedgerError, match=r"expected a number, ':' and 64 hex digits"):
        heads_in("10:abc")
