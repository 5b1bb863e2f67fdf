"""offers app: the pages on which people ask, judge, watch and plan, on this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

START_SECONDS = 60.0


def app(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the pages on loopback.")] = 8501,
    services: Annotated[bool, typer.Option(help="Start predictor, ranker and sidecar, where none runs here.")] = True,
) -> None:
    """Show pages to look at, until Ctrl-C: what is offered to a customer and why; releases, cards, approvals."""
    from cli.serve import until_told
    from offers.errors import ServiceError
    from offers.settings import Settings
    from serving.addresses import STARTED
    from serving.app import MEMORY
    from serving.local import check_free, in_use

    if find_spec("streamlit") is None or find_spec("plotly") is None:
        raise ServiceError("the pages need Streamlit and Plotly: 'make setup' installs them, or the extra 'app'")
    home = Settings.from_env().home.resolve()
    check_free(port)
    starts = services and not in_use(home / "serve") and any((home / "bundles").glob("*/manifest.json"))
    pages = ["serving.app", "--port", str(port), *([STARTED] if starts else [])]
    with until_told(), ExitStack() as stack:
        process = stack.enter_context(_child("app", pages, home, MEMORY))
        url = f"http://127.0.0.1:{port}"
        _await(process, url, home / "app" / "app.log")
        typer.echo(f"pages     {url}\nlogs      {home / 'app'}")
        sys.stdout.flush()
        if starts:
            stack.enter_context(_child("serve", ["cli", "serve", "--port", "0"], home))
        process.wait()
        raise ServiceError(f"the pages have ended; {home / 'app' / 'app.log'} tells why")


@contextmanager
def _child(
    name: str, command: list[str], home: Path, environment: Mapping[str, str] = {}
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module until the block ends, or this process does; its log is `app/NAME.log` below `home`.

    Parameters
    ----------
    environment : variables that hold where this process has no others of the name
    """
    from offers.files import os_errors

    log = home / "app" / f"{name}.log"
    with os_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("wb")
    with output:
        # In a session of its own: Ctrl-C reaches us alone, and we stop it.
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.process.tether", *command],
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**environment, **os.environ} | {"OFFERS_HOME": str(home)},
        )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.terminate()


def _await(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Wait until the pages answer."""
    import httpx

    from offers.errors import ServiceError
    from offers.http_client import peer

    pages, deadline = peer("the pages", f"{url}/_stcore/health", 5.0), time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if pages.ask().status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise ServiceError(f"the pages do not answer at {url}; {log} tells why")
