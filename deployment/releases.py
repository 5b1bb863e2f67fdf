"""Has a service on a cluster serve what the ledger says: ends promotions that were begun, and serves the champion."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deployment.access import access
from deployment.account import as_account
from deployment.challenger import GRPC_PORT, Challenger
from deployment.cluster import connect
from deployment.deploy import roll_out
from deployment.inference_service import InferenceService
from deployment.rollout import RolloutTarget, present
from deployment.smoke import smoke
from offers.errors import LedgerError, ServiceError
from offers.governance import release as releases
from offers.governance.access import open_ledger, signer_of
from offers.governance.approval import begin, begin_back
from offers.governance.canary import Canary, Looks
from offers.governance.entries import Entry, Promoting, Returned
from offers.governance.follower import Follower, Steps, contract_to_follow
from offers.governance.keys import Signer
from offers.governance.release import OpenRelease
from offers.governance.state import State
from offers.settings import Settings
from offers.store.delta import DeltaTables
from offers.wording import Say
from serving.ranker.routing import Arm, Routing
from serving.ranker.routing_source import FOLDER, RoutingObject

PAUSE = 2.0
"""Seconds between two looks at a canary."""
PREDICTOR, SIDECAR = f"127.0.0.1:{GRPC_PORT}", "http://127.0.0.1:8090/events"
"""Where the ranker of a serving pod reaches the predictor and the drift sidecar of the same pod."""


@dataclass(frozen=True)
class Target:
    """The service that releases are rolled out to.

    Attributes
    ----------
    service : NAMESPACE/NAME of the InferenceService
    smoke_url : address at which its predictor answers golden rows; if empty, through the cluster's API
    seconds : time to wait for the service to be ready
    context : kubectl's context; if empty, the cluster that this process runs in, or else the current one
    """

    service: str
    smoke_url: str = ""
    seconds: int = 600
    context: str = ""


def serve(target: Target, settings: Settings, say: Say = print, key: Path | None = None) -> bool:
    """Serve the champion, and end a promotion that was begun before; false where nobody has promoted a release yet.

    Parameters
    ----------
    key : file of the private key that signs; by default that of the settings

    Raises
    ------
    LedgerError
        there is no ledger, or the key may not do this
    BundleError, StorageError
        the release is damaged or can't be read; then nothing was changed
    ServiceError
        the release could not be served; the message says what is served now
    """
    with _cluster(target, settings, say, key) as cluster:
        contract = contract_to_follow(cluster.ledger)
        if contract is None:
            return False
        cluster.follow(contract)
        return cluster.ledger.state().champion(contract) is not None


def promote(release: str, target: Target, settings: Settings, say: Say = print, key: Path | None = None) -> None:
    """Let a release serve, and wait until it does; raises as `serve` does, and where it was returned.

    A promotion of the same release that was begun before is ended, and one that has ended is checked.
    """
    with _cluster(target, settings, say, key) as cluster:
        state = cluster.ledger.state()
        record = state.release(release)
        if _under_way(state, record.act.contract) == record.name or _serves(state, record.name):
            cluster.follow(record.act.contract)
            return
        cluster.open(record.name)
        begun = begin(cluster.ledger, cluster.signer, record.name)
        cluster.follow(record.act.contract)
        cluster.expect(begun)


def take_back(reason: str, target: Target, settings: Settings, say: Say = print, key: Path | None = None) -> None:
    """Return to the release that served before, and withdraw the present one; raises as `promote` does."""
    with _cluster(target, settings, say, key) as cluster:
        contract = contract_to_follow(cluster.ledger)
        if contract is None:
            raise LedgerError(f"{cluster.ledger.store.uri}: nobody has promoted a release yet, so there is none before")
        former = cluster.ledger.state().former(contract)
        if former is not None:
            cluster.open(former.name)
        begun = begin_back(cluster.ledger, cluster.signer, contract, reason)
        cluster.follow(contract)
        cluster.expect(begun)


class _Cluster:
    """A service of a cluster, and the ledger that says what it serves."""

    def __init__(
        self, target: Target, service: InferenceService, predictor: str, settings: Settings, signer: Signer, say: Say
    ) -> None:
        self.ledger, self.signer = open_ledger(settings), signer
        store = self.ledger.store
        if not store.uri.startswith("s3://"):
            raise ServiceError(f"ledger {store.uri}: expected OFFERS_LEDGER=s3://bucket, which pods can reach")
        if self.ledger.head is None:
            raise LedgerError(f"{store.uri} holds no ledger: 'make deploy' begins one, or 'offers key add'")
        self._settings, self._target, self._service, self._predictor = settings, target, service, predictor
        self._home, self._say = settings.home.resolve(), say
        self._routing = RoutingObject(store, f"{FOLDER}/{service.name}.json", self._home)
        self._challenger = Challenger(service, self._routing, target.seconds)

    def open(self, name: str) -> OpenRelease:
        """Fetch a release and verify it."""
        return releases.fetch(self.ledger.store, name, self._home, self._settings.signers)

    def follow(self, contract: str) -> None:
        """Do what the ledger asks for, until the champion serves and no promotion is under way."""
        looks = Looks(DeltaTables.at(f"{self.ledger.store.uri}/tables", self._settings))
        steps = Steps(self._answer, self._challenger.clear, looks)
        # Whatever the service is told to serve is checked once more: whoever told it may not have lived to do so.
        follower = Follower(self.ledger, self.signer, contract, self._switch, "", steps)
        while True:
            follower.step()
            state = self.ledger.state()
            champion = state.champion(contract)
            if _under_way(state, contract):
                time.sleep(PAUSE)
            elif champion is None or follower.serving == champion.name:
                break
        self._challenger.clear()
        self._note_head()

    def expect(self, begun: Entry) -> None:
        """Raise `ServiceError` where a promotion was returned."""
        for entry in self.ledger.entries()[begun.number + 1 :]:
            if entry.act.kind in ("promoted", "rolled back"):
                self._say(f"entry {entry.number}: {entry.act.kind}")
                return
            if isinstance(entry.act, Returned):
                raise ServiceError(f"entry {entry.number}: returned: {entry.act.reason}")

    def _switch(self, name: str) -> None:
        release, uri, now = self.open(name), self._uri(name), present(self._service.read())
        head = now.head if now.uri == uri else str(self.ledger.head or "")
        roll_out(self._service, RolloutTarget(uri, head), self._smoke, self._target.seconds, self._say)
        self._route(release)

    def _smoke(self, uri: str) -> None:
        smoke(self._predictor, self.open(uri.rpartition("/")[2]).bundle, self._target.seconds)

    def _answer(self, canary: Canary) -> None:
        self._challenger.answer(canary, self.open(canary.release), self._uri(canary.release))

    def _uri(self, name: str) -> str:
        return f"{self.ledger.store.uri}/{releases.key(name)}"

    def _route(self, release: OpenRelease) -> None:
        """Name the release in the routing; experiments go on."""
        arm = Arm(
            name="champion",
            share=1.0,
            release=release.name,
            bundle=release.bundle.name,
            directory=Path(releases.key(release.name)),
            predictor=PREDICTOR,
            drift_url=SIDECAR,
        )
        head = str(self.ledger.head or "")
        self._routing.replace(
            lambda before: Routing(head=head, arms=(arm,), experiments=before.experiments if before else ())
        )

    def _note_head(self) -> None:
        """Give the routing the end of the ledger, which each logged decision names."""
        if self._routing.read() is not None:
            head = str(self.ledger.head or "")
            self._routing.update(lambda routing: routing.model_copy(update={"head": head}))


@contextmanager
def _cluster(target: Target, settings: Settings, say: Say, key: Path | None) -> Iterator[_Cluster]:
    namespace, slash, name = target.service.partition("/")
    if not (namespace and slash and name):
        raise ServiceError(f"service {target.service!r}: expected NAMESPACE/NAME, as in offers/offers")
    api = connect(target.context)
    signer = as_account(signer_of(settings, key), api)
    with access(partial(connect, target.context), namespace, settings, target.smoke_url) as reached:
        yield _Cluster(target, InferenceService(api, namespace, name), reached.predictor, reached.settings, signer, say)


def _under_way(state: State, contract: str) -> str:
    promoting = state.line(contract).promoting
    return promoting.act.release if promoting and isinstance(promoting.act, Promoting) else ""


def _serves(state: State, release: str) -> bool:
    champion = state.champion(state.releases[release].act.contract)
    return champion is not None and champion.name == release
