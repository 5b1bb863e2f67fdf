"""offers model card, and how releases are found and opened for commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.canary import ReleaseArgument
from cli.outcomes import TablesOption

if TYPE_CHECKING:
    from offers.governance.ledger import Ledger
    from offers.governance.market_release import AnyRelease
    from offers.governance.release import OpenRelease
    from offers.governance.state import Release, State
    from offers.reports.card import Card


def card(
    release: ReleaseArgument,
    directory: Annotated[Path | None, typer.Option(help="Where to; OFFERS_HOME/cards by default.")] = None,
    tables: TablesOption = "",
) -> None:
    """Write the card of a release: Markdown and one HTML page, from bundle, ledger and decision log as they are now.

    Of a market it is the page of its evaluation.
    """
    from offers.files import os_errors
    from offers.governance.market_release import MarketRelease
    from offers.reports.card import html, markdown
    from offers.reports.market import market_report
    from offers.settings import Settings

    ledger, state, record = find(release)
    settings, opened = Settings.from_env(), open_release(ledger, record.name)
    if isinstance(opened, MarketRelease):
        bundle = opened.bundle
        texts = {"html": market_report(bundle.market, bundle.evaluation, bundle.name)}
    else:
        page = written_card(opened, state, ledger, tables or str(settings.home / "tables"))
        texts = {"md": markdown(page), "html": html(page)}
    target = directory or settings.home / "cards"
    with os_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for ending, text in texts.items():
            path = target / f"{record.name}.{ending}"
            path.write_text(text, "utf-8")
            typer.echo(str(path))


def written_card(release: "OpenRelease", state: "State", ledger: "Ledger", tables: str) -> "Card":
    """Gather the card of a release, with the exposure by the log in `tables`, if there is one."""
    from offers.errors import SourceError
    from offers.experiments.exposure import exposure
    from offers.reports.card import card_of
    from offers.settings import Settings
    from offers.store.delta import DeltaTables

    log, moment = DeltaTables.at(tables, Settings.from_env()), ledger.clock()
    try:
        measured = exposure(log, release.bundle.name, release.manifest.catalogue, release.bundle.contract, moment)
    except SourceError:
        measured = None
    return card_of(release, state, ledger.entries(), ledger.head, moment, measured)


def find(name: str) -> tuple["Ledger", "State", "Release"]:
    """Find a release of the ledger by its name, or by how it begins."""
    from offers.governance.access import open_ledger
    from offers.settings import Settings

    ledger = open_ledger(Settings.from_env())
    state = ledger.state()
    return ledger, state, state.release(name)


def open_release(ledger: "Ledger", name: str) -> "AnyRelease":
    """Open a release of a contract or of a market, after checking every file of it."""
    from offers.governance.market_release import fetch_any
    from offers.settings import Settings

    settings = Settings.from_env()
    return fetch_any(ledger.store, name, settings.home.resolve(), settings.signers)
