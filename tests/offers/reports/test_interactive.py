"""Interactive pages in a real browser: they draw what was measured, and load nothing."""

import importlib.util
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from offers.backtest.results import BlockFigures, ReplayResult, summary
from offers.batch.allocation import allocate
from offers.batch.campaign import load
from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.errors import SourceError
from offers.policy import catalogue as catalogues
from offers.reports import charts, interactive
from offers.reports.campaign import campaign_page
from tests.support.pages import CHROMIUM, IN_A_BROWSER
from tests.support.shop import SHOP
from tests.support.warranties import WARRANTIES

NAME = "<b>never</b>"
WEEK = """\
name: week
capacity:
  - {name: letters, where: {channel: mail}, contacts: 4}
  - {name: calls, where: {channel: phone}, contacts: 2}
"""


def replay(policy: str, learns: bool, losses: tuple[float, ...], retrained: tuple[int, ...]) -> ReplayResult:
    def block(loss: float) -> BlockFigures:
        return BlockFigures(auc=0.7, within=0.6, ece=0.02, log_loss=loss, accepted=(1, 2))

    spans = tuple(map(block, losses))
    counts = {"fits": 1, "seconds": 1.0, "live_from": 0, "refused": (), "updated": (), "alarms": ()}
    return ReplayResult(
        policy=policy,
        schedule="never",
        learns=learns,
        alignment=0,
        delay="0",
        pooled=spans[0],
        windows=spans,
        over_time=spans,
        retrained=retrained,
        **counts,
    )


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page: the charts' data, the words, what it was asked for elsewhere, and its faults."""

    drawn: list[list[list[object]]]
    words: list[str]
    heading: str
    asked: list[str]
    faults: list[str]


def seen(file: Path, axis: str) -> Seen:
    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, asked, faults = browser.new_page(), list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(file.as_uri())
        page.locator(".main-svg").first.wait_for()
        plots = "[...document.querySelectorAll('.js-plotly-plot')]"
        drawn = page.evaluate(f"{plots}.map(plot => plot.data.map(line => [...line.{axis}]))")
        words = page.locator(".legendtext, .ytick text").all_text_contents()
        found = Seen(drawn, words, page.locator("h1").inner_text(), asked, faults)
        browser.close()
    assert found.faults == []
    assert [url for url in found.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    return found


@pytest.mark.slow
@IN_A_BROWSER[1]
def test_the_page_draws_the_results_and_loads_nothing(tmp_path: Path) -> None:
    results = [replay(NAME, False, (0.5, 0.4), ()), replay("two of three + layer", True, (0.3, 0.25), (10, 1500))]
    page_file = tmp_path / "deep" / "backtest.html"
    interactive.write_page("Backtest of <a>", results, summary(results), page_file)
    page = seen(page_file, "y")
    assert page.drawn == [[[0.5, 0.4], [0.3, 0.25]], [[0.7], [0.7]]]
    assert page.heading == "Backtest of <a>"
    assert f"{NAME}: 0 trainings" in page.words
    assert "two of three + layer: 2 trainings" in page.words


@pytest.mark.slow
@IN_A_BROWSER[1]
def test_a_report_draws_its_chart_and_loads_nothing(tmp_path: Path) -> None:
    catalogue = catalogues.parse(WARRANTIES, contracts.parse(SHOP))
    campaign, limits = load(WEEK, catalogue.offers)
    plan = allocate(np.full((30, len(catalogue.offers)), 3.0, np.float32), limits)
    file = tmp_path / "campaign.html"
    file.write_text(campaign_page(campaign, catalogue, limits, plan, 30, 0, []), "utf-8")
    page = seen(file, "x")
    assert page.drawn == [[plan.pricing.prices.tolist()]]
    assert {"letters, per contact", "calls, per contact"} <= set(page.words)


def test_an_evaluation_and_windows_of_drift_are_drawn_as_measured(shop_bundle: Path) -> None:
    evaluation = bundles.load(shop_bundle).evaluation
    model, baseline = charts.windows(evaluation).data
    assert list(model.y) == [one.model["auc"].value for one in evaluation.windows]
    assert list(baseline.y) == [one.baseline["auc"].value for one in evaluation.windows]
    moments = [datetime(2026, 12, day, tzinfo=UTC) for day in (1, 2)]
    drift = charts.distances(moments, {"a": [0.1, None], "<b>": [0.2, 0.3]}, 0.1)
    assert [(line.name, list(line.y)) for line in drift.data] == [("a", [0.1, None]), ("&lt;b&gt;", [0.2, 0.3])]
    assert drift.layout.shapes[0].y0 == 0.1


def test_reports_without_plotly_have_no_charts_and_run_no_script(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ("more", lambda: charts.prices(["a"], ["contact"], [1.0], [2.0]))
    drawn = charts.drawn([one])
    assert "Plotly.newPlot" in drawn[0]
    monkeypatch.setattr(charts, importlib.util.find_spec.__name__, lambda _: None)
    assert charts.drawn([one]) == []


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(interactive, importlib.util.find_spec.__name__, lambda _: None)
    with pytest.raises(SourceError, match="extra 'app'"):
        interactive.write_page("a", [], [], tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
