"""A recommender of this machine that follows the ledger: it scores itself, so a promotion starts no process."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from offers.errors import ServiceError
from offers.experiments.experiment import Experiment, ExperimentArm
from offers.governance.canary import CHALLENGER, Canary
from offers.governance.market_release import MarketRelease, fetch_any
from offers.store.store import Store
from serving.local import ROUTING, Log, Running, check_free, locked, shipper, started
from serving.ranker.routing import Arm
from serving.routed import CHAMPION, RoutedService, kept_experiments, put_away


@dataclass
class MarketSupervisor(RoutedService):
    """Switches a recommender to releases.

    Attributes
    ----------
    store : of the releases
    home : below which a copy of each release is kept
    signers : public keys, one of which must have signed a bundle
    """

    store: Store
    home: Path
    logs: Path
    head: Callable[[], str]
    signers: Sequence[Path] = ()
    experiments: tuple[Experiment, ...] = ()
    recommender: Running | None = None
    clock: Callable[[], float] = time.monotonic
    noun: str = "recommender"

    @property
    def service(self) -> Running | None:
        return self.recommender

    def release(self, name: str) -> MarketRelease:
        """Fetch a release and verify it; raises `ServiceError` where it is not a market's."""
        release = fetch_any(self.store, name, self.home, self.signers)
        if not isinstance(release, MarketRelease):
            raise ServiceError(f"release {name} is of no market: 'offers serve' serves it")
        return release

    def switch(self, name: str) -> None:
        """Serve a release; where it does not come up, what served before goes on.

        Raises
        ------
        OffersError
            the release does not hold, or the recommender does not take it
        """
        release = self.release(name)
        directory, bundle = release.path.resolve(), release.bundle.name
        self.put(Arm(name=CHAMPION, share=1.0, release=name, bundle=bundle, directory=directory))

    def tidy(self) -> None:
        """Raise `ServiceError` where the recommender has ended."""
        if self.recommender is not None and (code := self.recommender.process.poll()) is not None:
            raise ServiceError(f"the recommender has ended with exit code {code}; its log tells why")


@dataclass
class MarketChallenger:
    """Lets the release of a canary answer its share of the users, beside what serves."""

    supervisor: MarketSupervisor
    canary: tuple[str, float] = ("", 0.0)

    def answer(self, canary: Canary) -> None:
        """Bring the routing file to a canary's share; raises `OffersError` where the recommender does not take it."""
        if self.canary == (canary.name, canary.share):
            return
        release = self.supervisor.release(canary.release)
        directory, bundle = release.path.resolve(), release.bundle.name
        arm = ExperimentArm(name=CHALLENGER, share=canary.share, bundle=bundle, directory=directory)
        self.supervisor.route_canary(Experiment(name=canary.name, arms=(arm,)))
        self.canary = canary.name, canary.share
        self.supervisor.await_switch(f"{canary.name}/{CHALLENGER}", release.name)

    def clear(self) -> None:
        """Have what serves answer everybody."""
        self.supervisor.route_canary(None)
        self.canary = ("", 0.0)


@contextmanager
def supervised(
    supervisor: MarketSupervisor, release: str, port: int, store: str, products: Path | None, log: Log
) -> Iterator[Running]:
    """Serve a release until the block ends.

    Parameters
    ----------
    store : the online store
    products : the market's table of products, to follow it
    log : where decisions are logged

    Raises
    ------
    ServiceError
        the directory is in use, the port is taken, or the recommender can't be started
    """
    logs = supervisor.logs
    logs.mkdir(parents=True, exist_ok=True)
    with locked(logs) as lock, ExitStack() as stack:
        check_free(port)
        supervisor.experiments = kept_experiments(logs)
        (logs / ROUTING).unlink(missing_ok=True)
        stack.callback(put_away, logs)
        supervisor.switch(release)
        stack.enter_context(shipper(logs, lock, log))()
        options = ("--routing", logs / ROUTING, "--http_port", port, *recommender_arguments(logs, store, products, log))
        supervisor.recommender = stack.enter_context(started("recommender", logs, lock, *options))()
        yield supervisor.recommender


def recommender_arguments(logs: Path, store: str, products: Path | None, log: Log) -> list[object]:
    """What a recommender is told of its store, its products, and of where events and decisions go."""
    arguments: list[object] = ["--store", store, "--events", logs / "events", *log.arguments(logs)]
    return [*arguments, "--products", products] if products else arguments
