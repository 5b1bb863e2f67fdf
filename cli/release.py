"""Turns the bundle of a run into a release in the ledger."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle
    from offers.governance.keys import Signer
    from offers.governance.ledger import Ledger
    from offers.settings import Settings


def register_bundle(ledger: "Ledger", signer: "Signer", bundle: str, catalogue: str, settings: "Settings") -> str:
    """Make a release of a bundle and a catalogue, by default that of the contract's name; returns its name.

    The default of a market is its own section `recommendation`.
    """
    from offers.bundle.location import is_of_market, open_bundle

    if is_of_market(bundle, settings):
        return _register_market(ledger, signer, bundle, catalogue, settings)
    return _register(ledger, signer, open_bundle(bundle, settings), catalogue, settings)


def _register(ledger: "Ledger", signer: "Signer", bundle: "Bundle", catalogue: str, settings: "Settings") -> str:
    from offers.governance import release as releases
    from offers.governance.registration import register
    from offers.policy import catalogue as catalogues

    text = catalogues.text(catalogue or bundle.contract.name)
    return register(ledger, signer, releases.make(settings.home.resolve() / "releases", bundle, text))


def _register_market(ledger: "Ledger", signer: "Signer", bundle: str, catalogue: str, settings: "Settings") -> str:
    from offers.governance import market_release
    from offers.governance.registration import register
    from offers.retrieval.bundle import open_bundle
    from offers.retrieval.rules import read_rules

    rules = read_rules(catalogue) if catalogue else ""
    home = settings.home.resolve() / "releases"
    return register(ledger, signer, market_release.make(home, open_bundle(bundle, settings), rules))


def registered(bundle: str, settings: "Settings") -> str:
    """Register the bundle of a run; return the result in one line."""
    from offers.bundle.location import is_of_market, open_bundle
    from offers.governance.access import open_to_write
    from offers.governance.registration import verdict_of
    from offers.policy import catalogue as catalogues

    ledger, signer = open_to_write(settings)
    if is_of_market(bundle, settings):
        return _told(ledger, _register_market(ledger, signer, bundle, "", settings))
    model_bundle = open_bundle(bundle, settings)
    if model_bundle.contract.name in catalogues.shipped():
        return _told(ledger, _register(ledger, signer, model_bundle, "", settings))
    if model_bundle.name not in ledger.state().gates:
        ledger.write(signer, lambda state: verdict_of(model_bundle))
    advice = f"'offers model add {bundle} --catalogue FILE' makes one"
    return f"none: no catalogue for {model_bundle.contract.name} is shipped; {advice}"


def _told(ledger: "Ledger", release: str) -> str:
    state = ledger.state()
    return f"{release}, {state.status(state.releases[release], ledger.clock())}"


def register_refusal(verdict: Path, contract: str, settings: "Settings") -> None:
    """Record in the ledger that the gate refused a candidate."""
    from offers.files import sha256_of
    from offers.governance.access import open_to_write
    from offers.governance.registration import refused

    ledger, signer = open_to_write(settings)
    refused(ledger, signer, contract, sha256_of(verdict))
