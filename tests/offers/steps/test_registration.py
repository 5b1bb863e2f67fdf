"""What a pipeline writes into a ledger that others share: its releases, and the gate's refusals, with its own key."""

from pathlib import Path

import pytest

from offers.errors import LedgerError
from offers.governance import registration as governance
from offers.governance.audit import verify
from offers.governance.entries import ApprovalTerms, KeyAdded
from offers.governance.keys import new_key
from offers.governance.ledger import Ledger, enrol
from offers.governance.release import fetch
from offers.policy import catalogue as catalogues
from offers.settings import Settings
from offers.steps import registration
from offers.store.directory import DirectoryStore
from tests.support.ledgers import signer
from tests.support.warranties import WARRANTIES


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(DirectoryStore(tmp_path / "shared"))
    enrol(ledger, signer("root"), ("admin",))
    return ledger


@pytest.fixture
def settings(tmp_path: Path, ledger: Ledger) -> Settings:
    """Those of a step: the Secret holds a key that an admin has added as a trainer's."""
    pipeline = new_key(tmp_path / "key.pem").public
    act = KeyAdded(key=pipeline.id, public=pipeline.text, name="pipeline", roles=("trainer",))
    ledger.write(signer("root"), lambda state: act)
    return Settings(home=tmp_path / "step", ledger=str(tmp_path / "shared"), key=tmp_path / "key.pem")


@pytest.fixture(autouse=True)
def _shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogues, "shipped", lambda: ["shop"])
    monkeypatch.setattr(catalogues, "text", lambda name: WARRANTIES)


def test_a_bundle_becomes_a_release_of_the_shared_ledger_once(
    ledger: Ledger, settings: Settings, shop_bundle: Path, tmp_path: Path
) -> None:
    said = list[str]()
    for _ in range(2):
        registration.register(shop_bundle, "shop", settings, said.append)
    (name,) = ledger.state().releases
    assert said == [f"release {name}"] * 2
    assert [entry.act.kind for entry in ledger.entries()][2:] == ["data read", "gate", "release made"]
    assert ledger.state().name_of(ledger.entries()[-1].actor) == "pipeline"
    assert fetch(ledger.store, name, tmp_path / "reader").bundle.name == shop_bundle.name
    assert verify(ledger.store).holds
    assert registration.promotable(shop_bundle.name, settings) == ""


def test_a_release_that_the_gate_alone_approves_may_be_promoted_at_once(
    ledger: Ledger, settings: Settings, shop_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governance, "terms_of", lambda approval: ApprovalTerms(people=0, days=90))
    registration.register(shop_bundle, "shop", settings.model_copy(update={"account": "runner"}), lambda text: None)
    assert registration.promotable(shop_bundle.name, settings) == next(iter(ledger.state().releases))
    assert registration.promotable("shop-0123456789abcdef", settings) == ""
    assert registration.promotable(shop_bundle.name, settings.model_copy(update={"ledger": ""})) == ""
    assert {entry.account for entry in ledger.entries()[2:]} == {"runner"}
    assert verify(ledger.store).holds


def test_a_refusal_is_written_once(ledger: Ledger, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text("{}")
    for _ in range(2):
        registration.refuse(tmp_path / "gate.json", "shop", settings)
    assert [entry.act.kind for entry in ledger.entries()][2:] == ["gate"]


def test_nothing_is_written_without_a_key_or_a_shipped_catalogue(
    ledger: Ledger, settings: Settings, shop_bundle: Path, tmp_path: Path
) -> None:
    said = list[str]()
    for other in (
        settings.model_copy(update={"key": tmp_path / "none.pem"}),
        Settings(home=tmp_path, key=settings.key),
    ):
        registration.register(shop_bundle, "shop", other, said.append)
        registration.refuse(tmp_path / "gate.json", "shop", other)
    registration.register(shop_bundle, "other", settings, said.append)
    assert said == ["no release: no catalogue for other is shipped; 'offers model add' makes one"]
    assert len(ledger.entries()) == 2


def test_a_key_that_nobody_added_stops_the_step(
    ledger: Ledger, settings: Settings, shop_bundle: Path, tmp_path: Path
) -> None:
    new_key(tmp_path / "stranger.pem")
    other = settings.model_copy(update={"key": tmp_path / "stranger.pem"})
    with pytest.raises(LedgerError, match="is unknown here; an admin adds it: 'offers key add'"):
        registration.register(shop_bundle, "shop", other, print)
    assert len(ledger.entries()) == 2
