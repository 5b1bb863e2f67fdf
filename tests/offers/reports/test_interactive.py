"""A backtest's page in a real browser: it draws what was measured, and loads nothing."""

import importlib.util
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from offers.backtest.results import BlockFigures, ReplayResult, summary
from offers.errors import SourceError
from offers.reports import interactive
from tests.support.pages import CHROMIUM, IN_A_BROWSER

NAME = "<b>never</b>"


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


@pytest.mark.slow
@IN_A_BROWSER[1]
def test_the_page_draws_the_results_and_loads_nothing(tmp_path: Path) -> None:
    results = [replay(NAME, False, (0.5, 0.4), ()), replay("two of three + layer", True, (0.3, 0.25), (10, 1500))]
    page_file = tmp_path / "deep" / "backtest.html"
    interactive.write_page("Backtest of <a>", results, summary(results), page_file)
    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, asked, faults = browser.new_page(), list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(page_file.as_uri())
        page.locator(".main-svg").first.wait_for()
        drawn = page.evaluate(
            "[...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.data.map(line => [...line.y]))"
        )
        words = page.locator(".legendtext").all_text_contents()
        heading = page.locator("h1").inner_text()
        browser.close()
    assert drawn == [[[0.5, 0.4], [0.3, 0.25]], [[0.7], [0.7]]]
    assert (faults, heading) == ([], "Backtest of <a>")
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert f"{NAME}: 0 trainings" in words
    assert "two of three + layer: 2 trainings" in words


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(interactive, importlib.util.find_spec.__name__, lambda _: None)
    with pytest.raises(SourceError, match="extra 'app'"):
        interactive.write_page("a", [], [], tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
