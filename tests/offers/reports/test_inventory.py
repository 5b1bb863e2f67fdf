"""The catalogue of what is here: what lineage, ledger and contracts say, in JSON and on a page."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from offers.contract.contract import Contract
from offers.errors import StorageError
from offers.lineage import datasets, events
from offers.lineage.sink import FILE, Sink
from offers.reports.inventory import html, inventory
from offers.settings import LineageSettings
from offers.store.directory import DirectoryStore
from tests.support.ledgers import Bank

Offers = Callable[..., tuple[int, str, str]]


def _run(home: Path) -> None:
    """A raw data set that came from a file, was typed, and was read for that; one step failed."""
    sink = Sink(home, LineageSettings())
    raw, typed = home / "ingest" / "raw", home / "validate" / "typed"
    for name, kind, origin in (
        ("ingest", "COMPLETE", "orders.csv"),
        ("validate", "COMPLETE", ""),
        ("train", "FAIL", ""),
    ):
        paths = {"contract_text": "shop", "raw": raw, "typed": typed, "gold": home / "gold"}
        sink.send(events.event(events.step_of(name, paths, "bank"), kind, origin))  # type: ignore[arg-type]


def test_lineage_contracts_and_releases_stand_in_one_catalogue(shop_contract: Contract, tmp_path: Path) -> None:
    _run(tmp_path)
    bank = Bank(DirectoryStore(tmp_path))
    release = bank.champion(1)
    sets = datasets.read(tmp_path)
    assert [(data.namespace, data.name, data.written_by, data.read_by) for data in sets] == [
        ("file", "orders.csv", "", ("shop.ingest",)),
        ("bank", "shop.raw", "shop.ingest", ("shop.validate",)),
        ("bank", "shop.typed", "shop.validate", ()),
    ]
    content = inventory([shop_contract], sets, bank.ledger.state(), bank.ledger.head, bank.clock())
    assert content["ledger"] == str(bank.ledger.head)
    (told,) = content["releases"]
    assert (told["name"], told["status"]) == (release, "champion")
    assert (told["made_by"], told["approved_by"]) == (["trainer"], ["ann", "bob"])
    (contract,) = content["contracts"]
    assert [feature["name"] for feature in contract["features"]] == [column.name for column in shop_contract.inputs]
    page = html(content)
    for text in (release, "shop.typed", "orders.csv", "spending", "A shop that offers its members a warranty"):
        assert text in page
    for tag in ("<script", "<link", "src="):
        assert tag not in page


@pytest.mark.parametrize("line", [b"[", b"[1]", b'{"eventType":"COMPLETE"}', b"\xff"])
def test_a_line_that_is_no_event_is_named(line: bytes, tmp_path: Path) -> None:
    _run(tmp_path)
    with (tmp_path / FILE).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(StorageError, match="expected an event of OpenLineage in line 4"):
        datasets.read(tmp_path)


def test_the_command_writes_both_where_nothing_was_done_yet(offers: Offers, tmp_path: Path) -> None:
    code, out, err = offers("catalogue", "--directory", tmp_path / "pages")
    assert code == 0, err
    assert out.split() == [str(tmp_path / "pages" / name) for name in ("catalogue.json", "catalogue.html")]
    content = json.loads((tmp_path / "pages" / "catalogue.json").read_text())
    assert "bank-marketing" in [contract["name"] for contract in content["contracts"]]
    assert content["releases"] == content["data_sets"] == []
    assert "No run on this machine has told of any." in (tmp_path / "pages" / "catalogue.html").read_text()
