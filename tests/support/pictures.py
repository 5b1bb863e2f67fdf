"""Pictures of the pages for the documentation: `python -m tests.support.pictures URL`, where `offers app` answers."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).resolve().parents[2] / "docs"
WIDTH, PATIENCE = 1280, 60_000


def main(url: str) -> None:
    """Write docs/app-customer.png and docs/app-model.png."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as program:
        window = program.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = window.new_page(viewport={"width": WIDTH, "height": 1500})
        page.goto(url)
        page.locator(".js-plotly-plot").nth(1).wait_for(timeout=PATIENCE)
        page.wait_for_timeout(2000)
        page.screenshot(path=DOCS / "app-customer.png")
        page.goto(f"{url}/model")
        page.get_by_role("tab", name="Card").click(timeout=PATIENCE)
        page.get_by_role("heading", name="Standing").wait_for(timeout=PATIENCE)
        page.screenshot(path=DOCS / "app-model.png")
        window.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
