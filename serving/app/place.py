"""Where a page's facts lie: the services that run here, what they serve, and the records of runs."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import streamlit as st

from offers.bundle.bundle import Bundle
from offers.bundle.location import open_bundle
from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.errors import ServiceError
from offers.governance.access import governed_store
from offers.governance.ledger import Ledger
from offers.governance.release import fetch
from offers.http_client import peer
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.catalogue import Catalogue
from offers.settings import Settings
from offers.store.directory import DirectoryStore
from serving.addresses import STARTED, Addresses
from serving.local import in_use

REFERENCE = "reference.parquet"
START_SECONDS = 60.0
ASK_SECONDS = 5.0
UNAUTHORIZED = 401
SERVICE = "offers"
"""The name by which the ranker of a cluster knows itself."""


@dataclass(frozen=True)
class Served:
    """What answers now: the services' addresses, and the bundle and the policy behind them."""

    addresses: Addresses
    bundle: Bundle
    catalogue: Catalogue
    policy: Policy

    @property
    def contract(self) -> Contract:
        return self.bundle.contract


def served() -> Served:
    """Find what is served.

    Raises
    ------
    ServiceError
        nothing is, or not yet: says what to run
    """
    addresses = _addresses(Settings.from_env())
    model = loaded(str(addresses.bundle))
    offered = catalogue_of(addresses.catalogue, str(addresses.bundle))
    return Served(addresses, model, offered, Policy(offered, model.contract))


def _addresses(settings: Settings) -> Addresses:
    """Read the addresses, after waiting for services that start."""
    if (addresses := running(settings)) is not None:
        return addresses
    directory = settings.home / "serve"
    if not bundles(settings):
        raise ServiceError("There is no bundle yet: 'make demo' trains one on real contacts, in a few minutes.")
    if not (STARTED in sys.argv or in_use(directory)):
        raise ServiceError("No services run here: 'make serve' starts them.")
    deadline = time.monotonic() + START_SECONDS
    with st.spinner("The services start …"):
        while (addresses := Addresses.present(directory)) is None and time.monotonic() < deadline:
            time.sleep(0.2)
    if addresses is None:
        raise ServiceError(f"The services did not start: {settings.home / 'app' / 'serve.log'} tells why.")
    return addresses


def running(settings: Settings) -> Addresses | None:
    """Find the services that answer: those that the settings name, else those of this machine; None where none do."""
    pages = settings.pages
    if not pages.ranker:
        return Addresses.present(settings.home / "serve")
    catalogue = _catalogue_there(pages.ranker)
    state = ledger(settings).state()
    known = [release for release in state.releases.values() if release.act.catalogue == catalogue]
    champions = {champion.name for champion in map(state.champion, state.lines) if champion is not None}
    # The newest, and a champion before all others.
    for release in sorted(known, key=lambda one: (one.name in champions, one.number), reverse=True)[:1]:
        path = release_at(settings, release.name)
        offered, own = str(path / "catalogue.yaml"), path / "bundle"
        return Addresses(
            ranker=pages.ranker, predictor="", drift=pages.drift, tables=pages.tables, bundle=own, catalogue=offered
        )
    raise ServiceError(
        f"The ranker at {pages.ranker} serves catalogue {catalogue}, of which the ledger has no release: it follows"
        " another ledger than these pages, or 'offers model add' has yet to make one."
    )


def _catalogue_there(ranker: str) -> str:
    """Ask a ranker which catalogue it serves."""
    url = f"{ranker}/v2/models/{SERVICE}"
    try:
        answer = peer("OFFERS_RANKER_URL", url, ASK_SECONDS).ask(headers=credentials())
        if answer.status_code == UNAUTHORIZED:
            raise ServiceError(
                f"The ranker at {ranker} asks its callers for a token, and takes none of these pages: the file that"
                " OFFERS_RANKER_TOKEN_FILE names is to hold one of its issuer's."
            )
        (version,) = answer.json()["versions"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        reason = str(error) or type(error).__name__
        raise ServiceError(f"no ranker of this version answers at {url}: {reason}; it may still start") from None
    return str(version)


def credentials() -> dict[str, str]:
    """Read the token by which the ranker knows these pages, anew each time, since it runs out; empty without one."""
    file = Settings.from_env().pages.token_file
    if file is None or not file.exists():
        return {}
    return {"authorization": f"Bearer {file.read_text('utf-8').strip()}"}


def ledger(settings: Settings) -> Ledger:
    """Open the ledger; what was read of it is kept between looks."""
    return _opened(settings.ledger or str(settings.home.resolve()))


@st.cache_resource(max_entries=2, show_spinner=False)
def _opened(where: str) -> Ledger:
    return Ledger(governed_store(Settings.from_env()))


@st.cache_resource(max_entries=8, show_spinner=False)
def ledger_of(home: Path) -> Ledger:
    """Open the ledger of a demonstration; what was read of it is kept between looks."""
    return Ledger(DirectoryStore(home))


def demonstrations(settings: Settings) -> dict[str, Path]:
    """Find the homes of demonstrations whose ledgers have two releases or more, by what names them."""
    homes = [path.parent for path in settings.home.resolve().glob("*/releases") if (path.parent / "ledger").is_dir()]
    told = {home: len(ledger_of(home).state().releases) for home in homes}
    return {f"that of {home.name}": home for home, number in told.items() if number > 1}


def release_at(settings: Settings, name: str) -> Path:
    """Find a release's copy on this machine; it is fetched and verified at the first look."""
    return _fetched(name, str(settings.home.resolve()))


@st.cache_resource(max_entries=8, show_spinner="The release is fetched ...")
def _fetched(name: str, home: str) -> Path:
    settings = Settings.from_env()
    return fetch(ledger(settings).store, name, Path(home), settings.signers).path


def bundle_at(settings: Settings, name: str) -> Path | None:
    """Find a bundle by its name: in the local store, or in a release of the ledger."""
    path = settings.home / "bundles" / name
    if (path / "manifest.json").exists():
        return path
    of = [release for release in ledger(settings).state().releases.values() if release.act.bundle == name]
    return release_at(settings, of[-1].name) / "bundle" if of else None


def contracts(settings: Settings) -> list[str]:
    """Name the contracts of the local bundles, the newest first, then those of the ledger's releases."""
    local = [path.name.rpartition("-")[0] for path in bundles(settings)]
    governed = [release.act.contract for release in ledger(settings).state().releases.values()]
    return list(dict.fromkeys((*local, *reversed(governed))))


def bundles(settings: Settings) -> list[Path]:
    """List the bundles of the local store, the newest first."""
    manifests = (settings.home / "bundles").glob("*/manifest.json")
    return [path.parent for path in sorted(manifests, key=lambda path: path.stat().st_mtime, reverse=True)]


@st.cache_resource(max_entries=8, show_spinner=False)
def loaded(path: str) -> Bundle:
    """Load a bundle once; its name tells its content, so it never changes."""
    return open_bundle(path, Settings.from_env())


def catalogue_of(where: str, bundle: str) -> Catalogue:
    """Load a catalogue, a file of which may have changed since the last look."""
    return catalogues.load(where, loaded(bundle).contract)


@st.cache_data(max_entries=8, show_spinner=False)
def reference(path: str) -> pd.DataFrame:
    """Read the customers that a bundle keeps of its training."""
    columns = [column.name for column in loaded(path).contract.inputs]
    frame: pd.DataFrame = pd.read_parquet(Path(path) / REFERENCE, columns=columns)
    return frame


def instance(contract: Contract, customer_id: str, values: dict[str, Any]) -> dict[str, Any]:
    """Write a customer as a request does: `values` by column, None where one is missing."""
    parts = {
        name: {column.name: values[column.name] for column in contract.inputs if column.role == role}
        for name, role in (("customer", Role.CUSTOMER), ("context", Role.CONTEXT))
    }
    return {"customer_id": customer_id, **parts}


def values_of(contract: Contract, rows: pd.DataFrame, place: int) -> dict[str, Any]:
    """Read the customer and context columns of a row as a request holds them."""
    names = [column.name for column in contract.inputs if column.role != Role.OFFER]
    row: dict[str, Any] = json.loads(rows[names].iloc[[place]].to_json(orient="records", double_precision=15))[0]
    return {
        name: bool(value) if value is not None and contract[name].type == "boolean" else value
        for name, value in row.items()
    }
