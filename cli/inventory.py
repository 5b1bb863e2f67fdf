"""offers catalogue: what is here to be used, in one page."""

import json
from pathlib import Path
from typing import Annotated

import typer


def catalogue(
    directory: Annotated[Path | None, typer.Option(help="Where to; OFFERS_HOME by default.")] = None,
) -> None:
    """Write contracts, features, data sets and releases, with owners and lineage, as catalogue.json and .html."""
    from offers.contract import contract as contracts
    from offers.files import os_errors
    from offers.governance.access import open_ledger
    from offers.lineage import datasets
    from offers.reports.inventory import html, inventory
    from offers.settings import Settings

    settings = Settings.from_env()
    ledger = open_ledger(settings)
    every = [contracts.load(name) for name in contracts.shipped()]
    content = inventory(every, datasets.read(settings.home), ledger.state(), ledger.head, ledger.clock())
    target = directory or settings.home
    with os_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for name, text in (("catalogue.json", json.dumps(content, indent=1) + "\n"), ("catalogue.html", html(content))):
            (target / name).write_text(text, "utf-8")
            typer.echo(str(target / name))
