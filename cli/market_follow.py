"""offers market serve where the ledger has a champion of a market: serves it, and follows people's decisions."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offers.governance.entries import Entry
    from offers.governance.keys import Signer
    from offers.governance.ledger import Ledger
    from offers.settings import Settings
    from serving.local import Log


def follow_market(settings: "Settings", market: str, store: str, products: Path | None, port: int, log: "Log") -> None:
    """Serve the champion of a market, and each release that replaces it, until a service ends."""
    from cli.follow import keep_following
    from cli.market_service import introduce
    from offers.errors import LedgerError
    from offers.governance.access import open_to_write
    from offers.governance.canary import Looks
    from offers.governance.follower import Follower, Steps, first_to_serve
    from offers.store.delta import DeltaTables
    from serving.local import directory_of
    from serving.market_supervisor import MarketChallenger, MarketSupervisor, supervised

    ledger, signer = open_to_write(settings)
    release = first_to_serve(ledger.state(), market)
    if release is None:
        raise LedgerError(f"market {market}: no release was ever promoted; 'offers model promote' does it")
    home, logs = settings.home.resolve(), directory_of(settings.home, of_market=True)
    supervisor = MarketSupervisor(ledger.store, home, logs, lambda: str(ledger.head or ""), settings.signers)
    with supervised(supervisor, release, port, store, products, log) as recommender:
        introduce(recommender)
        challenger = MarketChallenger(supervisor)
        steps = Steps(challenger.answer, challenger.clear, Looks(DeltaTables.at(log.tables, settings)))
        keep_following(supervisor, Follower(ledger, signer, market, supervisor.switch, release, steps))


def route_market(ledger: "Ledger", signer: "Signer", begun: "Entry", settings: "Settings") -> "Entry":
    """End a promotion of a market's release on a cluster: write the routing that recommenders follow.

    Its object is `routing/MARKET.json` in the ledger's store. The release was verified before the promotion began, and
    each recommender verifies it again.
    """
    from offers.governance import release as releases
    from offers.governance.approval import finish
    from offers.governance.entries import Promoting
    from serving.ranker.routing import Arm, Routing
    from serving.ranker.routing_source import FOLDER, RoutingObject
    from serving.routed import CHAMPION

    assert isinstance(begun.act, Promoting)
    record = ledger.state().releases[begun.act.release]
    routing = RoutingObject(ledger.store, f"{FOLDER}/{record.act.contract}.json", settings.home.resolve())
    arm = Arm(
        name=CHAMPION,
        share=1.0,
        release=record.name,
        bundle=record.act.bundle,
        directory=Path(releases.key(record.name)),
    )
    head = str(ledger.head or "")
    routing.replace(lambda before: Routing(head=head, arms=(arm,), experiments=before.experiments if before else ()))
    end = finish(ledger, signer, begun)
    head = str(ledger.head)
    routing.update(lambda present: present.model_copy(update={"head": head}))
    return end
