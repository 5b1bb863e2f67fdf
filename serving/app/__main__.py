"""Starts the pages: `python -m serving.app`. What stands after `--` is told to the pages."""

import argparse
import sys
from pathlib import Path

_OPTIONS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "5",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "theme.light.primaryColor": "#005a9c",
    "theme.dark.primaryColor": "#7cc4ff",
}
"""No word to anybody about the use, no traceback on a page, colours that stand out in both themes."""


def main() -> None:
    """Serve the pages until they are stopped."""
    from streamlit.web.cli import main as streamlit

    parser = argparse.ArgumentParser("app", description="Show pages to look at.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; loopback by default")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("words", nargs="*", help="told to the pages")
    arguments = parser.parse_args()
    options = _OPTIONS | {"server.address": arguments.host, "server.port": str(arguments.port)}
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    sys.exit(streamlit(["run", str(Path(__file__).with_name("main.py")), *given, "--", *arguments.words]))


if __name__ == "__main__":
    main()
