"""The pages of `offers app` in a real browser."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.awaiting import await_that
from tests.e2e.forward import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 180_000
"""Milliseconds: on a busy machine the first look at a page takes a while."""
AXE = "OFFERS_AXE"
"""Variable with the path of axe-core's axe.min.js."""
BY_AXE = pytest.mark.skipif(AXE not in os.environ, reason=f"{AXE} names no axe.min.js: access is NOT tested")
IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here: the pages are NOT tested; install chromium"),
]


class started:  # noqa: N801
    """`offers app` without services of its own, until the block ends."""

    def __init__(self, home: Path, port: int = 0) -> None:
        self.home, self.port = home, port or free_port()

    def __enter__(self) -> str:
        environment = os.environ | {"OFFERS_HOME": str(self.home), "OFFERS_MLFLOW": "off"}
        command = [sys.executable, "-m", "cli", "app", "--port", str(self.port), "--no-services"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.split() == ["pages", f"http://127.0.0.1:{self.port}"]
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait(120)
        await_that("the pages' end", lambda: (None if _answers(self.port) else True, "they answer"), 30, "ps")


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def look(
    browser: Browser, url: str, heading: str, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    # The first page has no path of its own.
    page.goto(url.removesuffix("/customer"))
    page.get_by_role("heading", name=heading, exact=True).wait_for(timeout=PATIENCE)
    return page


def cells(page: Page, place: int) -> list[list[str]]:
    """The rows of a table, the head first."""
    table = page.get_by_role("table").nth(place)
    table.wait_for(timeout=PATIENCE)
    return [row.locator("th, td").all_inner_texts() for row in table.locator("tr").all()]


def violations(browser: Browser, url: str, heading: str) -> list[str]:
    """Run axe-core on a page in light and dark, wide and narrow; names what is serious or critical, and where."""
    script, found = Path(os.environ[AXE]).read_text("utf-8"), list[str]()
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page = look(browser, url, heading, scheme=scheme)
        settled(page)
        page.evaluate(script)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            result = page.evaluate("axe.run({resultTypes: ['violations']})")
            found += [
                f"{heading}, {scheme}, {width}: {one['id']}, {one['help']}: {one['nodes'][0]['html'][:200]}"
                for one in result["violations"]
                if one["impact"] in ("serious", "critical")
            ]
        page.close()
    return found


def settled(page: Page) -> None:
    """Wait until a page has been drawn whole."""
    page.wait_for_function(
        "!document.querySelector('[data-testid=stSkeleton], [data-testid=stSpinner]')"
        " && document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'",
        timeout=PATIENCE,
    )
