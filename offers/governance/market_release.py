"""A release of a market: its bundle, and as catalogue the rules by which recommendations are put together.

The directory is that of `offers.governance.release`, so ledger, approval and promotion are those of any release.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from offers.governance import release as releases
from offers.governance.release import CATALOGUE, OpenRelease, ReleaseManifest
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.rules import read_rules, rules_text, rules_version, with_rules
from offers.store.store import Store


@dataclass(frozen=True)
class MarketRelease:
    """A verified release of a market on this machine; the bundle's contract has the rules of the release."""

    path: Path
    name: str
    manifest: ReleaseManifest
    bundle: MarketBundle


AnyRelease = OpenRelease | MarketRelease


def make(parent: Path, bundle: MarketBundle, catalogue: str = "") -> MarketRelease:
    """Make a release of a market's bundle below `parent`, whole or not at all.

    Parameters
    ----------
    catalogue : YAML text; by default the section `recommendation` of the bundle's contract

    Raises
    ------
    CatalogueError
        the catalogue is wrong, or does not fit the contract
    """
    text = catalogue or rules_text(bundle.market)
    final, _ = releases.assembled(parent, bundle, text, rules_version(with_rules(bundle.market, text)))
    return load(final)


def load(path: Path, signers: Sequence[Path] = ()) -> MarketRelease:
    """Open a market's release after checking its name, every file, the golden rows and the catalogue.

    Raises
    ------
    BundleError
        something is missing, changed or foreign
    """
    manifest, name = releases.verify(path, signers)
    return MarketRelease(path, name, manifest, serving_bundle(path / "bundle", path / CATALOGUE, manifest.bundle))


def serving_bundle(bundle: Path, catalogue: Path, expected: str) -> MarketBundle:
    """Load a bundle with the rules of a catalogue in the place of the contract's own."""
    loaded = MarketBundle.load(bundle, expected)
    return replace(loaded, market=with_rules(loaded.market, read_rules(str(catalogue)), str(catalogue)))


def load_any(path: Path, signers: Sequence[Path] = ()) -> AnyRelease:
    """Open a release, of a contract or of a market."""
    return load(path, signers) if releases.is_of_market(path) else releases.load(path, signers)


def fetch_any(store: Store, name: str, home: Path, signers: Sequence[Path] = ()) -> AnyRelease:
    """Open a release from the store, of a contract or of a market; a copy is kept below `home`."""
    return load_any(releases.local(store, name, home), signers)
