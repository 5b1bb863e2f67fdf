"""Decisions from the services of this machine to the commands about them."""

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cli.decisions import erase_customer
from offers.contract.contract import Contract
from offers.decisions.erasure import verify
from offers.decisions.log import Customers, decided
from offers.decisions.pseudonym import Pseudonyms
from offers.decisions.records import DECISIONS
from offers.decisions.spool import Spool, SpoolLimits
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.local import Log, services
from tests.support.decision_log import answered
from tests.support.rankers import CROWD, EXPLORING, PREDICT, someone
from tests.support.runs import offers
from tests.support.services import DEADLINE


@pytest.fixture(scope="module")
def logged(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A home whose services have answered, and been told what came of it; the ids of its decisions."""
    home = tmp_path_factory.mktemp("home")
    log = Log(str(home / "tables"), home / "pseudonym.key")
    Pseudonyms.at(log.key)
    catalogue = home / "catalogue.yaml"
    catalogue.write_text(EXPLORING)
    with services(shop_bundle, str(catalogue), home / "serve", decisions=log) as running:
        answer = httpx.post(f"{running.ranker.url}{PREDICT}", json={"instances": CROWD}, timeout=DEADLINE)
        ids = [prediction["decision_id"] for prediction in answer.json()["predictions"]]
        told = [{"decision_id": ids[0], "kind": "clicked", "observed_at": "2020-01-01T00:00:00Z"}]
        assert httpx.post(f"{running.ranker.url}/v1/outcomes", json={"outcomes": told}).json()["logged"] == 1
        assert running.shipper is not None
        assert "offers_shipped_rows" in httpx.get(f"{running.shipper.url}/metrics").text
    return home, ids


def test_a_decision_is_shown_made_again_and_erased_and_the_log_verifies(
    logged: tuple[Path, list[str]], shop_bundle: Path, tmp_path: Path
) -> None:
    home, ids = logged
    shown = offers(home, "decisions", "show", ids[0]).stdout
    assert "asked with: spending 600" in shown
    assert "clicked" in shown
    assert "why here" in shown
    assert ids[1] in offers(home, "decisions", "show", "--customer", "B").stdout
    again = offers(home, "decisions", "redo", "--bundle", shop_bundle).stdout
    assert f"{len(CROWD)} decisions made again, 0 came out otherwise" in again
    assert "to the last bit" in again
    erased = offers(home, "decisions", "erase", "--customer", "B", "--reason", "asked").stdout
    assert "1 decision: question, answer and pseudonym are erased" in erased
    assert "customer erased" in erased
    assert '"reason": "asked"' in offers(home, "audit", "log").stdout
    assert f"{len(CROWD)} decisions in" in offers(home, "decisions", "verify").stdout
    gone = offers(home, "decisions", "show", "--customer", "B")
    assert gone.returncode == 2
    assert "found none" in gone.stderr
    assert "erased" in offers(home, "decisions", "show", ids[1]).stdout
    told = tmp_path / "told.csv"
    told.write_text(f"decision_id,kind,observed_at\n{ids[2]},accepted,2020-01-01\nx,bought,2020-01-01\n")
    assert "1 outcome, 1 row in quarantine" in offers(home, "outcomes", "load", told).stdout
    assert "nothing was added" in offers(home, "outcomes", "load", told).stdout


def test_what_still_waits_in_the_spool_is_erased_too(shop_contract: Contract, tmp_path: Path) -> None:
    settings, key = Settings(home=tmp_path), Pseudonyms.at(tmp_path / "pseudonym.key")
    tables, spool = DeltaTables.at(str(tmp_path / "tables"), settings), tmp_path / "serve" / "spool"
    answer = answered(shop_contract, [someone("Ann"), someone("Maria", spending=4321.125)])
    names = Customers([key.of("Ann"), key.of("Maria")], key.key_id, answer.customers.columns)
    writer = Spool(spool, "pod", SpoolLimits())
    writer.append(decided(replace(answer, customers=names)))
    writer.seal()
    erase_customer("Maria", "asked", tables, settings)
    assert list(spool.glob("*-*")) == []
    rows = tables.open(DECISIONS).to_pyarrow_table().to_pylist()
    assert [row["customer"] for row in rows] == [key.of("Ann"), None]
    assert "4321.125" not in str(rows)
    assert (verify(tables).erased, verify(tables).faults) == (1, ())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["decisions", "show"], "expected the id of a decision, or --customer"),
        (["decisions", "show", "nothing"], "expected decision 'nothing', found none"),
        (["decisions", "erase", "--customer", "nobody", "--reason", "asked"], "no decision about this customer"),
        (["outcomes", "load", "nowhere.csv"], "there is no such file"),
        (["decisions", "verify", "--tables", "ftp://host"], "expected a directory, file:///path or s3://"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], said: str, logged: tuple[Path, list[str]]) -> None:
    refused = offers(logged[0], *arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
