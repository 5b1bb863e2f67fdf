"""Registers what a pipeline has made, in a ledger that others share: on a cluster, with the key of the pipelines.

A command on one's own machine registers by itself, with one's own key.
"""

from pathlib import Path

from offers.settings import Settings
from offers.wording import Say


def register(bundle: Path, contract: str, settings: Settings, say: Say = print) -> None:
    """Make a release of a bundle and the shipped catalogue of its contract, where the settings name a ledger and a key.

    Raises
    ------
    LedgerError
        the ledger does not know the key as a trainer's, or is damaged
    StorageError
        the store can't be reached
    """
    if not _member(settings):
        return
    import tempfile

    from offers.governance import registration
    from offers.governance.access import member_key, open_ledger
    from offers.governance.release import make
    from offers.policy import catalogue as catalogues

    if contract not in catalogues.shipped():
        say(f"no release: no catalogue for {contract} is shipped; 'offers model add' makes one")
        return
    with tempfile.TemporaryDirectory() as directory:
        release = make(Path(directory), bundle, catalogues.text(contract))
        say(f"release {registration.register(open_ledger(settings), member_key(settings), release)}")


def register_market(bundle: Path, settings: Settings, say: Say = print) -> None:
    """Make a release of a market's bundle, where the settings name a ledger and a key; raises as `register` does.

    A bundle that the gate refuses gets its verdict in the ledger, and no release.
    """
    if not _member(settings):
        return
    import tempfile

    from offers.governance import market_release, registration
    from offers.governance.access import member_key, open_ledger
    from offers.retrieval.bundle import MarketBundle

    loaded, ledger, key = MarketBundle.load(bundle), open_ledger(settings), member_key(settings)
    if not loaded.verdict.passed:
        ledger.write(key, lambda state: None if loaded.name in state.gates else registration.verdict_of(loaded))
        say(f"no release: the ranker does not pass the gate: {loaded.verdict.rules[0]}")
        return
    with tempfile.TemporaryDirectory() as directory:
        release = market_release.make(Path(directory), loaded)
        say(f"release {registration.register(ledger, key, release)}")


def promotable(bundle: str, settings: Settings) -> str:
    """Name the release of a bundle that the gate alone approves; empty where people have to, or nothing was registered.

    Raises
    ------
    LedgerError, StorageError
        the ledger is damaged, or can't be reached
    """
    if not _member(settings):
        return ""
    from offers.governance.access import open_ledger

    made = [release for release in open_ledger(settings).state().releases.values() if release.act.bundle == bundle]
    return made[-1].name if made and not made[-1].act.terms.people else ""


def refuse(verdict: Path, contract: str, settings: Settings) -> None:
    """Record that the gate refused a candidate; raises as `register` does."""
    if not _member(settings):
        return
    from offers.files import sha256_of
    from offers.governance.access import member_key, open_ledger
    from offers.governance.registration import refused

    refused(open_ledger(settings), member_key(settings), contract, sha256_of(verdict))


def _member(settings: Settings) -> bool:
    return bool(settings.ledger and settings.key and settings.key.exists())
