"""The pages in a real browser, whose figures are held against the ranker's answer and the ledger."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from offers.governance import release as releases
from offers.governance.entries import ApprovalTerms, GateJudged, ReleaseMade
from offers.store.directory import DirectoryStore
from serving.addresses import Addresses
from serving.local import services
from tests.e2e.awaiting import await_that
from tests.e2e.forward import free_port
from tests.support.ledgers import Bank
from tests.support.warranties import WARRANTIES

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60_000
"""Milliseconds: on a busy machine the first look at a page takes a while."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here: the pages are NOT tested; install chromium"),
]


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
            evidence={},
            terms=ApprovalTerms(people=2, days=90),
        ),
    )
    port = free_port()
    with services(shop_bundle, str(catalogue), home / "serve") as running:
        Addresses.of(running, shop_bundle, str(catalogue)).write(home / "serve")
        with started(home, port):
            yield Pages(home, f"http://127.0.0.1:{port}", running.ranker.url, release.name)


class started:  # noqa: N801
    """`offers app` without services of its own, until the block ends."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port

    def __enter__(self) -> None:
        environment = os.environ | {"OFFERS_HOME": str(self.home), "OFFERS_MLFLOW": "off"}
        command = [sys.executable, "-m", "cli", "app", "--port", str(self.port), "--no-services"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.split() == ["pages", f"http://127.0.0.1:{self.port}"]

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait(30)
        await_that("the pages' end", lambda: (None if _answers(self.port) else True, "they answer"), 30, "ps")


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as program:
        found = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def look(browser: Browser, url: str, heading: str, width: int = 1280) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(url)
    page.get_by_role("heading", name=heading, exact=True).wait_for(timeout=PATIENCE)
    return page


def cells(page: Page, place: int) -> list[list[str]]:
    """The rows of a table, the head first."""
    table = page.get_by_role("table").nth(place)
    table.wait_for(timeout=PATIENCE)
    return [row.locator("th, td").all_inner_texts() for row in table.locator("tr").all()]


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


def test_a_home_without_anything_says_what_to_run(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    with started(tmp_path, port):
        page = look(browser, f"http://127.0.0.1:{port}", "Customer")
        expect(page.get_by_text("There is no bundle yet: 'make demo' trains one")).to_be_visible(timeout=PATIENCE)
        page.close()
        page = look(browser, f"http://127.0.0.1:{port}/model", "Model")
        expect(page.get_by_text("The ledger holds no release yet.")).to_be_visible(timeout=PATIENCE)
        page.close()
