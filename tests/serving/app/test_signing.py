"""Who signs on a page behind a sign-on: the key that is handed over, under the name that the sign-on gives."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st

from offers.errors import LedgerError, ServiceError
from offers.governance.access import open_ledger
from offers.governance.entries import KeyAdded
from offers.governance.keys import new_key
from offers.settings import Settings
from serving.app import signing
from serving.app.commands import run
from serving.app.signing import Key, person
from tests.support.ledgers import Bank

HEADER = "X-Forwarded-Email"


def as_somebody(monkeypatch: pytest.MonkeyPatch, home: Path, headers: dict[str, str]) -> None:
    monkeypatch.setenv("OFFERS_HOME", str(home))
    monkeypatch.setenv("OFFERS_MLFLOW", "off")
    monkeypatch.setenv("OFFERS_PERSON_HEADER", HEADER)
    monkeypatch.setattr(st, "context", SimpleNamespace(headers=headers))


@pytest.mark.slow
def test_the_ledger_names_the_key_and_whom_the_sign_on_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_somebody(monkeypatch, tmp_path, {HEADER: "ann@bank.example"})
    bank = Bank(open_ledger(Settings.from_env()).store)
    key = new_key(tmp_path / "handed" / "dora.pem")
    bank.write("root", KeyAdded(key=key.public.id, public=key.public.text, name="dora", roles=("admin",)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    other = new_key(tmp_path / "handed" / "eve.pem").public.text
    handed = Key(Path("dora.pem"), (tmp_path / "handed" / "dora.pem").read_bytes())
    done, said = run(["key", "add", other, "--name", "eve", "--role", "approver"], handed)
    assert done, said
    ledger = open_ledger(Settings.from_env())
    last = ledger.entries()[-1]
    assert (ledger.state().name_of(last.actor), last.account) == ("dora", "ann@bank.example")
    assert list(scratch.iterdir()) == []


def test_whom_the_sign_on_does_not_name_is_let_in_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_somebody(monkeypatch, tmp_path, {})
    with pytest.raises(ServiceError, match=f"names? you in the header {HEADER}"):
        person()


def test_a_key_is_named_after_its_owner_and_by_no_path() -> None:
    with pytest.raises(LedgerError, match="expected the name of a file"):
        signing._plain_name("../keys/ann.pem")
