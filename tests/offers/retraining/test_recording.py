"""Retraining in the ledger: what asked, what was decided, what came of it; by whose key."""

from pathlib import Path

import pytest

from offers.errors import LedgerError
from offers.governance.audit import verify
from offers.governance.entries import RetrainingDecided, RetrainingEnded
from offers.retraining import recording
from offers.retraining.journal import Decision, Request
from offers.store.directory import DirectoryStore
from tests.support.ledgers import NOON, Bank, signer


def _decision(evidence: dict[str, object]) -> Decision:
    request = Request(id="a1", contract="shop", cause="alarm", evidence=evidence)
    return Decision(at=NOON, request=request, started=True, reason="drift was seen", run="retrain-shop-1")


def test_a_decision_and_its_end_are_entries_that_name_their_evidence(tmp_path: Path) -> None:
    bank = Bank(DirectoryStore(tmp_path))
    first = recording.decided(bank.ledger, signer("trainer"), _decision({"reasons": ["age moved"]}))
    other = recording.decided(bank.ledger, signer("olga"), _decision({"reasons": ["age stood still"]}))
    end = recording.ended(bank.ledger, signer("trainer"), "shop", "retrain-shop-1", True, "/b/shop-1", "note " * 1000)
    assert first is not None
    assert other is not None
    assert end is not None
    assert isinstance(first.act, RetrainingDecided)
    assert isinstance(other.act, RetrainingDecided)
    assert isinstance(end.act, RetrainingEnded)
    assert (first.act.cause, first.act.run, first.act.started) == ("alarm", "retrain-shop-1", True)
    assert first.act.request != other.act.request
    assert (end.act.bundle, len(end.act.note)) == ("shop-1", 2000)
    assert verify(bank.store, [bank.ledger.head] if bank.ledger.head else []).holds


def test_whoever_approves_does_not_train(tmp_path: Path) -> None:
    bank = Bank(DirectoryStore(tmp_path))
    with pytest.raises(LedgerError, match="ann has no role trainer or operator, which 'retraining decided' asks for"):
        recording.decided(bank.ledger, signer("ann"), _decision({}))
