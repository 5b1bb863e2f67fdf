"""The pages in a real browser, whose figures are held against the ranker's answer and the ledger."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from offers.bundle import bundle as bundles
from offers.errors import ServiceError
from offers.governance import release as releases
from offers.governance.entries import ApprovalTerms, GateJudged, KeyAdded, ReleaseMade
from offers.governance.keys import new_key
from offers.governance.ledger import Ledger
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.effect import first_places, moved
from offers.policy.selection import plain_columns
from offers.store.directory import DirectoryStore
from serving.addresses import Addresses
from serving.app import place
from serving.app.catalogue import CUSTOMERS
from serving.local import services
from tests.e2e.forward import free_port
from tests.support.ledgers import Bank, signer
from tests.support.pages import BY_AXE, IN_A_BROWSER, PATIENCE, cells, look, started, violations
from tests.support.warranties import WARRANTIES

pytestmark = IN_A_BROWSER


@dataclass(frozen=True)
class Pages:
    """A home, and where its pages and its ranker answer."""

    home: Path
    url: str
    ranker: str
    release: str


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, shop_bundle: Path) -> Iterator[Pages]:
    home = tmp_path_factory.mktemp("home")
    catalogue = home / "warranties.yaml"
    catalogue.write_text(WARRANTIES)
    store = DirectoryStore(home)
    release = releases.make(home / "made", shop_bundle, WARRANTIES)
    releases.store_release(store, release)
    bank = Bank(store)
    bank.write("trainer", GateJudged(contract="shop", bundle=release.bundle.name, passed=True, evidence={}))
    bank.write(
        "trainer",
        ReleaseMade(
            release=release.name,
            contract="shop",
            bundle=release.bundle.name,
            catalogue=release.manifest.catalogue,
            evidence={"catalogue.yaml": release.manifest.files["catalogue.yaml"]},
            terms=ApprovalTerms(people=2, days=90),
        ),
    )
    port = free_port()
    with services(shop_bundle, str(catalogue), home / "serve") as running:
        Addresses.of(running, shop_bundle, str(catalogue)).write(home / "serve")
        with started(home, port):
            yield Pages(home, f"http://127.0.0.1:{port}", running.ranker.url, release.name)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pages of a home in which nothing has been done."""
    with started(tmp_path_factory.mktemp("nothing")) as url:
        yield url


def test_the_page_shows_what_the_ranker_answers(browser: Browser, pages: Pages) -> None:
    page = look(browser, pages.url, "Customer")
    head, *rows = cells(page, 0)
    command = page.get_by_test_id("stCode").last.inner_text()
    body = command.partition(" -d ")[2].strip().strip("'")
    asked = httpx.post(f"{pages.ranker}/v1/models/offers:predict", content=body, timeout=30)
    (prediction,) = asked.json()["predictions"]
    assert [cell.strip() for cell in head[:5]] == ["rank", "offer", "propensity", "value, EUR", "score, EUR"]
    assert [[cell.strip() for cell in row[:5]] for row in rows] == [
        [
            str(offer["rank"]),
            offer["offer_id"],
            f"{offer['propensity']:.1%}",
            f"{offer['value']:,.2f}",
            f"{offer['score']:,.2f}",
        ]
        for offer in prediction["offers"]
    ]
    # Scores, what moved the first offer, and what if.
    page.locator(".js-plotly-plot").nth(2).wait_for(timeout=PATIENCE)
    first = prediction["offers"][0]
    expect(page.get_by_text(f"{first['propensity']:.1%}").last).to_be_visible()
    assert json.loads(body)["instances"][0]["customer"]["spending"] == pytest.approx(
        float(page.locator("input[aria-label^='spending']").first.input_value())
    )
    page.close()


def test_another_value_in_the_form_gives_another_answer(browser: Browser, pages: Pages) -> None:
    page = look(browser, pages.url, "Customer")
    page.get_by_role("table").first.wait_for(timeout=PATIENCE)
    # Nobody without a visit gets a warranty.
    field = page.locator("input[aria-label^='visits']").first
    field.fill("0")
    field.press("Tab")
    page.get_by_role("button", name="Rank offers").click()
    expect(page.get_by_text("Nothing is offered to this customer; below is why.").first).to_be_visible(timeout=PATIENCE)
    page.close()


def test_the_narrow_page_scrolls_only_downwards(browser: Browser, pages: Pages) -> None:
    page = look(browser, pages.url, "Customer", width=390)
    page.get_by_role("table").first.wait_for(timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_releases_stand_as_in_the_ledger_and_a_missing_key_is_told(browser: Browser, pages: Pages) -> None:
    page = look(browser, f"{pages.url}/model", "Model")
    _, row = cells(page, 0)
    assert [cell.strip() for cell in row[:2]] == [pages.release, "candidate, challenger"]
    page.get_by_role("tab", name="Card").click()
    expect(page.get_by_role("heading", name="Standing")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("tab", name="Decide").click()
    page.locator("input[aria-label='File of your private key']").fill(str(pages.home / "nobody.pem"))
    page.locator("input[aria-label='File of your private key']").press("Tab")
    page.get_by_role("button", name="Sign").click()
    expect(page.get_by_test_id("stAlert").last).to_contain_text("nobody.pem", timeout=PATIENCE)
    assert "Traceback" not in page.inner_text("body")
    page.close()


def test_pages_of_another_machine_find_what_the_ranker_serves_in_the_ledger(
    pages: Pages, shop_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFERS_HOME", str(tmp_path))
    monkeypatch.setenv("OFFERS_LEDGER", str(pages.home))
    monkeypatch.setenv("OFFERS_RANKER_URL", pages.ranker)
    # Not here, where the browser's driver has a loop that runs.
    with ThreadPoolExecutor(1) as thread:
        here = thread.submit(place.served).result()
    assert (here.bundle.name, here.addresses.ranker) == (shop_bundle.name, pages.ranker)
    assert here.addresses.bundle == tmp_path / "releases" / pages.release / "bundle"
    assert here.catalogue.name == "warranties"
    monkeypatch.setenv("OFFERS_LEDGER", str(tmp_path / "empty"))
    with ThreadPoolExecutor(1) as thread, pytest.raises(ServiceError, match="of which the ledger has no release"):
        thread.submit(place.served).result()


def change_value(page: Page, value: str) -> None:
    """Give the first offer of the draft another value."""
    page.get_by_role("combobox", name="Offer").first.wait_for(timeout=PATIENCE)
    field = page.get_by_label("value of an acceptance, EUR")
    field.fill(value)
    field.press("Tab")
    page.get_by_role("button", name="Change the draft").first.click()
    page.get_by_role("heading", name="Propose").wait_for(timeout=PATIENCE)


def propose(page: Page, key: Path) -> None:
    field = page.get_by_role("textbox", name="File of your private key")
    field.fill(str(key))
    field.press("Tab")
    page.get_by_role("button", name="Propose").click()


def test_a_draft_shows_whom_it_would_change_and_is_proposed_once(
    browser: Browser, pages: Pages, shop_bundle: Path
) -> None:
    mine, theirs = (look(browser, f"{pages.url}/catalogue", "Catalogue") for _ in range(2))
    change_value(mine, "20")
    change_value(theirs, "21")
    bundle = bundles.load(shop_bundle)
    rows = pd.read_parquet(shop_bundle / "reference.parquet").sample(CUSTOMERS, random_state=0)
    before, after = (
        first_places(
            Policy(catalogues.parse(text, bundle.contract), bundle.contract),
            plain_columns(rows),
            bundle.model.propensity,
        )
        for text in (WARRANTIES, WARRANTIES.replace("value: 10", "value: 20"))
    )
    assert moved(before, after) > 0
    shown = mine.get_by_test_id("stMetricValue")
    expect(shown.first).to_have_text(f"{moved(before, after):.1%}", timeout=PATIENCE)
    expect(shown.nth(1)).to_have_text(f"{after.expected:,.2f} EUR")
    assert ["offer basic: value", "10.0", "20.0"] in [[cell.strip() for cell in row] for row in cells(mine, 0)]
    key = pages.home / "keys" / "tina.pem"
    public = new_key(key).public
    ledger = Ledger(DirectoryStore(pages.home))
    tina = KeyAdded(key=public.id, public=public.text, name="tina", roles=("trainer",))
    ledger.write(signer("root"), lambda _: tina)
    propose(mine, key)
    expect(mine.get_by_text("waits for approval on page Model")).to_be_visible(timeout=PATIENCE)
    state = ledger.state()
    (made,) = (release for name, release in state.releases.items() if name != pages.release)
    assert state.status(made, ledger.clock()) == "candidate"
    assert [entry.act.kind for entry in ledger.entries()][-2:] == ["catalogue changed", "release made"]
    assert state.name_of(ledger.entries()[-1].actor) == "tina"
    # Somebody who began before that is told.
    propose(theirs, key)
    expect(theirs.get_by_text("Since this draft began, another catalogue")).to_be_visible(timeout=PATIENCE)
    assert len(ledger.state().releases) == len(state.releases)
    mine.close()
    theirs.close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Customer", "There is no bundle yet: 'make demo' trains one"),
        ("Model", "The ledger holds no release yet."),
        ("Watch", "There is no bundle yet, so nothing is watched."),
        ("Experiments", "There is no decision log with decisions yet."),
        ("Campaign", "No customers are scored yet."),
        ("Catalogue", "There is no bundle yet: 'make demo' trains one"),
    ],
)
def test_a_home_without_anything_says_what_to_run(browser: Browser, nothing: str, name: str, sentence: str) -> None:
    page = look(browser, f"{nothing}/{name.lower()}", name)
    expect(page.get_by_text(sentence)).to_be_visible(timeout=PATIENCE)
    page.close()


@BY_AXE
@pytest.mark.parametrize("name", ["Customer", "Model", "Catalogue"])
def test_axe_finds_nothing_serious_on_the_pages_of_what_serves(browser: Browser, pages: Pages, name: str) -> None:
    assert violations(browser, f"{pages.url}/{name.lower()}", name) == []
