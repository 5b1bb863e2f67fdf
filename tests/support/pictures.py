"""Pictures of the pages for the documentation: `python -m tests.support.pictures URL`, where `offers app` answers."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.support.pages import look, settled

DOCS = Path(__file__).resolve().parents[2] / "docs"
MOST = {"Customer": 1500, "Model": 1500, "Watch": 1800, "Experiments": 1800, "Campaign": 1500, "Catalogue": 2200}
"""Pixels of each page that are shown, from its top, where it has as many."""
MAIN = "[data-testid=stMain]"
DRAWN = 2000
"""Milliseconds that figures take to be drawn once a page is there."""


def main(url: str) -> None:
    """Write docs/app-NAME.png for each page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as program:
        window = program.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, most in MOST.items():
            page = look(window, f"{url}/{name.lower()}", name)
            # Whole, so that nothing of it is left out of what is drawn.
            page.set_viewport_size({"width": 1280, "height": most})
            if name == "Model":
                page.get_by_role("tab", name="Card").click()
            if name == "Catalogue":
                field = page.get_by_label("value of an acceptance, EUR")
                field.fill("90")
                field.press("Tab")
                page.get_by_role("button", name="Change the draft").first.click()
                page.get_by_role("heading", name="Propose").wait_for()
            settled(page)
            page.wait_for_timeout(DRAWN)
            page.evaluate(f"document.querySelector('{MAIN}').scrollTo(0, 0)")
            whole = int(page.evaluate(f"document.querySelector('{MAIN}').scrollHeight"))
            page.set_viewport_size({"width": 1280, "height": min(most, whole)})
            page.wait_for_timeout(DRAWN)
            page.screenshot(path=DOCS / f"app-{name.lower()}.png")
            page.close()
        window.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
