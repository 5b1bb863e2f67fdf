"""Services of this machine that follow the ledger: a predictor and a sidecar for each bundle, one ranker before them.

A promotion starts what the new release needs beside the present, writes the routing file, waits until the ranker has
switched, and keeps the former predictor and sidecar for a while: a rollback then needs no start.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from offers.errors import ServiceError
from offers.experiments.experiment import Experiment
from offers.governance.release import OpenRelease, fetch
from offers.store.store import Store
from serving.local import ROUTING, Log, Running, Services, SidecarOptions, check_free, locked, shipper, sidecar, started
from serving.ranker.routing import Arm
from serving.routed import CHAMPION, RoutedService, kept_experiments, put_away

WARM_SECONDS = 600.0


@dataclass
class Pair:
    """Predictor and sidecar of one bundle; `idle_since` is None while they are in use."""

    predictor: Running
    drift: Running
    stack: ExitStack
    idle_since: float | None = None


@dataclass
class Supervisor(RoutedService):
    """Starts, switches and stops the services of releases.

    Attributes
    ----------
    store : of the releases
    home : below which a copy of each release is kept
    logs : directory of logs, routing file and the sidecars' state, which is locked
    head : gives the end of the ledger, for the routing file
    decisions : where decisions are logged; without it they are not
    experiments : those of an earlier start, for the first routing file
    """

    store: Store
    home: Path
    logs: Path
    watch: SidecarOptions
    head: Callable[[], str]
    lock: int
    warm_seconds: float = WARM_SECONDS
    clock: Callable[[], float] = time.monotonic
    pairs: dict[str, Pair] = field(default_factory=dict)
    decisions: Log | None = None
    ranker: Running | None = None
    shipper: Running | None = None
    bundle: str = ""
    experiments: tuple[Experiment, ...] = ()
    noun: str = "ranker"

    @property
    def service(self) -> Running | None:
        return self.ranker

    @property
    def services(self) -> Services:
        """What serves now."""
        pair = self.pairs[self.bundle]
        assert self.ranker is not None
        return Services(pair.predictor, self.ranker, pair.drift, self.shipper)

    def switch(self, name: str) -> None:
        """Serve a release; where it does not come up, what served before goes on.

        Raises
        ------
        OffersError
            the release does not hold, its predictor does not start, or the ranker does not take it
        """
        release = fetch(self.store, name, self.home)
        self.pair(release)
        self.put(self._arm(release))
        self._use(release.bundle.name)

    def start_ranker(self, http_port: int) -> Running:
        """Start the ranker in front of what serves."""
        arguments = ["--routing", self.logs / ROUTING, "--http_port", http_port, "--grpc_port", 0]
        stack = ExitStack()
        if self.decisions:
            self.shipper = stack.enter_context(shipper(self.logs, self.lock, self.decisions))()
            arguments += self.decisions.arguments(self.logs)
        self.ranker = stack.enter_context(started("ranker", self.logs, self.lock, *arguments))()
        self._ranker_stack = stack
        return self.ranker

    def tidy(self) -> None:
        """Stop what has not been in use for long; raises `ServiceError` where a service in use has ended."""
        for name, service in self.services.processes.items():
            if service.poll() is not None:
                raise ServiceError(f"the {name} has ended with exit code {service.returncode}; its log tells why")
        for bundle, pair in list(self.pairs.items()):
            if pair.idle_since is not None and self.clock() - pair.idle_since > self.warm_seconds:
                self.pairs.pop(bundle).stack.close()

    def stop(self) -> None:
        """Stop everything, the ranker first."""
        if self.ranker is not None:
            self._ranker_stack.close()
        for pair in self.pairs.values():
            pair.stack.close()

    def pair(self, release: OpenRelease) -> Pair:
        """Find predictor and sidecar of a release's bundle, or start them."""
        bundle = release.bundle.name
        pair = self.pairs.get(bundle)
        if pair is not None and (pair.predictor.process.poll() is not None or pair.drift.process.poll() is not None):
            self.pairs.pop(bundle).stack.close()
            pair = None
        if pair is None:
            pair = self.pairs[bundle] = self._start(release)
        return pair

    def _start(self, release: OpenRelease) -> Pair:
        free, name = ("--http_port", 0, "--grpc_port", 0), release.bundle.name[-8:]
        with ExitStack() as stack:
            # They load for seconds: both at the same time.
            arguments = ("--bundle", release.bundle_path, *free)
            predictor = stack.enter_context(
                started("predictor", self.logs, self.lock, *arguments, log=f"predictor-{name}")
            )
            drift = stack.enter_context(sidecar(release.bundle_path, self.logs, self.lock, self.watch, f"drift-{name}"))
            return Pair(predictor(), drift(), stack.pop_all())

    def _arm(self, release: OpenRelease) -> Arm:
        pair = self.pairs[release.bundle.name]
        return Arm(
            name=CHAMPION,
            share=1.0,
            release=release.name,
            bundle=release.bundle.name,
            directory=release.path.resolve(),
            predictor=f"127.0.0.1:{pair.predictor.bound['grpc_port']}",
            drift_url=f"{pair.drift.url}/events",
        )

    def _use(self, bundle: str) -> None:
        if self.bundle and self.bundle != bundle:
            self.pairs[self.bundle].idle_since = self.clock()
        self.pairs[bundle].idle_since = None
        self.bundle = bundle


@contextmanager
def supervised(
    store: Store,
    home: Path,
    logs: Path,
    watch: SidecarOptions,
    release: str,
    head: Callable[[], str],
    http_port: int = 0,
    decisions: Log | None = None,
) -> Iterator[Supervisor]:
    """Serve a release, on free ports but for the ranker's `http_port`, until the block ends.

    Raises
    ------
    ServiceError
        the directory is in use, the port is taken, or a service can't be started
    """
    logs.mkdir(parents=True, exist_ok=True)
    with locked(logs) as lock:
        check_free(http_port)
        experiments = kept_experiments(logs)
        (logs / ROUTING).unlink(missing_ok=True)
        supervisor = Supervisor(store, home, logs, watch, head, lock, decisions=decisions, experiments=experiments)
        try:
            supervisor.switch(release)
            supervisor.start_ranker(http_port)
            yield supervisor
        finally:
            put_away(logs)
            supervisor.stop()
