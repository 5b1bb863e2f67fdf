"""offers serve if the ledger has a champion: serves it, and follows people's decisions."""

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from offers.governance.follower import Follower
    from offers.settings import Settings
    from serving.local import Log, Services, SidecarOptions
    from serving.market_supervisor import MarketSupervisor
    from serving.supervisor import Supervisor

LOOK_SECONDS = 0.2


def follow(
    settings: "Settings",
    contract: str,
    watch: "SidecarOptions",
    port: int,
    introduce: Callable[["Services", "Path"], None],
    decisions: "Log",
) -> None:
    """Serve the champion of a contract, and each release that replaces it, until a service ends."""
    from offers.bundle import signature
    from offers.errors import LedgerError
    from offers.governance.access import open_to_write
    from offers.governance.canary import Looks
    from offers.governance.follower import Follower, Steps, first_to_serve
    from offers.governance.release import fetch, local
    from offers.store.delta import DeltaTables
    from serving.addresses import Addresses
    from serving.challenger import Challenger
    from serving.ranker.question import example
    from serving.supervisor import supervised

    ledger, signer = open_to_write(settings)
    release = first_to_serve(ledger.state(), contract)
    if release is None:
        raise LedgerError(f"contract {contract}: no release was ever promoted; 'offers model promote' does it")
    home, logs = settings.home.resolve(), settings.home / "serve"
    contract_of_release = fetch(ledger.store, release, home, settings.signers).bundle.contract

    def head() -> str:
        return str(ledger.head or "")

    def switch(name: str) -> None:
        if settings.signers:
            signature.check(local(ledger.store, name, home) / "bundle", settings.signers)
        supervisor.switch(name)
        tell(name)

    def tell(name: str) -> None:
        path = local(ledger.store, name, home)
        Addresses.of(supervisor.services, path / "bundle", str(path / "catalogue.yaml")).write(logs)

    with supervised(ledger.store, home, logs, watch, release, head, port, decisions) as supervisor:
        request = logs / "request.json"
        request.write_text(json.dumps(example(contract_of_release), indent=1) + "\n", "utf-8")
        tell(release)
        introduce(supervisor.services, request)
        challenger = Challenger(supervisor)
        steps = Steps(challenger.answer, challenger.clear, Looks(DeltaTables.at(decisions.tables, settings)))
        follower = Follower(ledger, signer, contract, switch, release, steps)
        keep_following(supervisor, follower)


def keep_following(supervisor: "Supervisor | MarketSupervisor", follower: "Follower") -> None:
    """Follow the ledger until a service ends; what can't be done is told once, and tried again."""
    from offers.errors import OffersError

    refusal = ""
    while True:
        supervisor.tidy()
        try:
            follower.step()
            supervisor.note_head()
            refusal = ""
        except OffersError as error:
            if str(error) != refusal:
                refusal = str(error)
                print(f"offers: {refusal}; {follower.serving} goes on", file=sys.stderr, flush=True)
        time.sleep(LOOK_SECONDS)
