"""What the card tells of the time since a release: alarms, verdicts and retrainings about its bundle."""

from pathlib import Path

from offers.governance import release as releases
from offers.governance.entries import Action, RetrainingDecided, RetrainingEnded
from offers.governance.registration import register
from offers.reports.card import Card, card_of, html, markdown
from offers.store.directory import DirectoryStore
from tests.support.ledgers import Bank, signer
from tests.support.warranties import WARRANTIES


def _decided(
    number: int, bundle: str, action: Action = "retrain", run: str = "", contract: str = "shop"
) -> RetrainingDecided:
    evidence = {"bundle": bundle, "signals": {"drift": True, "volume": False}, "reasons": ["price moved <far>"]}
    return RetrainingDecided(
        contract=contract,
        id=f"alarm-{number}",
        cause="alarm",
        action=action,
        evidence=evidence,
        started=bool(run),
        run=run,
        reason="as asked" if run else "too soon",
    )


def _ended(run: str, bundle: str, note: str) -> RetrainingEnded:
    return RetrainingEnded(contract="shop", run=run, succeeded=bool(bundle), bundle=bundle, note=note)


def _rows(card: Card) -> list[list[str]]:
    return [[cell.text for cell in row] for row in card.monitoring.rows]


def test_alarms_and_retrainings_of_the_bundle_since_its_release_are_rows(tmp_path: Path, shop_bundle: Path) -> None:
    bank = Bank(DirectoryStore(tmp_path / "home"))
    release = releases.make(tmp_path / "releases", shop_bundle, WARRANTIES)
    own = release.bundle.name

    def card() -> Card:
        return card_of(release, bank.ledger.state(), bank.ledger.entries(), bank.ledger.head, bank.clock.moment)

    bank.write("trainer", _decided(1, own, run="before"))
    register(bank.ledger, signer("trainer"), release)
    assert _rows(card()) == []
    assert "The ledger has no alarm, verdict or retraining about this bundle." in html(card())

    bank.write("trainer", _decided(2, own, action="none"))
    bank.write("trainer", _decided(3, "shop-of-another"))
    bank.write("trainer", _decided(4, own, contract="bank"))
    for number, run in enumerate(("made", "failed", "open"), 5):
        bank.write("trainer", _decided(number, own, run=run))
    bank.write("trainer", _ended("made", "s3://bundles/shop-next", "passed"))
    bank.write("trainer", _ended("failed", "", "the gate refused it"))

    rows = _rows(card())
    why = "drift; price moved <far>"
    assert [row[2:] for row in rows] == [
        ["alarm", why, "none: too soon", ""],
        ["alarm", why, "retrain: as asked", "shop-next"],
        ["alarm", why, "retrain: as asked", "the gate refused it"],
        ["alarm", why, "retrain: as asked", "under way"],
    ]
    numbers = {
        entry.act.id: entry.number for entry in bank.ledger.entries() if isinstance(entry.act, RetrainingDecided)
    }
    assert [row[0] for row in rows] == [str(numbers[f"alarm-{number}"]) for number in (2, 5, 6, 7)]
    assert "drift; price moved &lt;far&gt;" in html(card())
    assert r"drift; price moved \<far>" in markdown(card())
