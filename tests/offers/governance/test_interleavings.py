"""Any order of register, approve, promote, roll back, kill and failure: what serves is what the ledger says."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from offers.errors import LedgerError, ServiceError, StorageError
from offers.governance import approval
from offers.governance.audit import verify
from offers.governance.entries import Act, Rejected, RetrainingDecided
from offers.governance.follower import Follower, first_to_serve
from offers.governance.ledger import Ledger
from tests.support.ledgers import Bank, signer


class Killed(BaseException):
    """The process ends here, by SIGKILL."""


class FlakyStore:
    """A store in memory that may be away, or whose process may be killed, before or after the next creation."""

    uri = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    def read_bytes(self, key: str) -> bytes:
        return self.objects[key]

    def create(self, key: str, content: bytes) -> bool:
        failure = FAILURES.pop() if FAILURES else None
        if failure == "away":
            raise StorageError("the store is away")
        if failure == "killed before":
            raise Killed
        created = key not in self.objects
        self.objects.setdefault(key, content)
        if failure == "killed after":
            raise Killed
        return created


FAILURES: list[str] = []


class Service:
    """Processes that serve a release; ends where it is killed, and begins anew with what the ledger says."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.broken = False
        self.release: str | None = None
        self.follower: Follower | None = None

    def start(self) -> None:
        release = first_to_serve(self.ledger.state(), "shop")
        if release is not None:
            self.release = release
            self.follower = Follower(self.ledger, signer("olga"), "shop", self.switch, release)

    def switch(self, release: str) -> None:
        if self.broken:
            raise ServiceError("its predictor did not start")
        self.release = release

    def kill(self) -> None:
        self.release = self.follower = None


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        FAILURES.clear()
        self.bank = Bank(FlakyStore())  # type: ignore[arg-type]
        self.reader = Ledger(self.bank.store)
        self.service = Service(Ledger(self.bank.store, self.bank.clock))
        self.written: list[str] = []
        self.releases: list[str] = []

    def teardown(self) -> None:
        FAILURES.clear()
        self.recover()
        audit = verify(self.bank.store)
        assert audit.problems == ()
        state = Ledger(self.bank.store).state()
        champion = state.champion("shop")
        assert self.service.release == (champion.name if champion else None)
        assert state.line("shop").promoting is None or self.service.follower is None
        signatures = [entry.signature for entry in Ledger(self.bank.store).entries()]
        assert [signature for signature in self.written if signature not in signatures] == []

    def recover(self) -> None:
        """What a restart and a quiet moment come to."""
        self.service.broken = False
        if self.service.follower is None:
            self.service.start()
        for _ in range(3):
            if self.service.follower is not None:
                self.service.follower.step()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A refusal is an answer, a store that is away another, and one who is killed says nothing."""
        try:
            yield
        except (LedgerError, StorageError):
            pass
        except Killed:
            self.bank.ledger = Ledger(self.bank.store, self.bank.clock)

    def write(self, name: str, act: Act) -> None:
        with self.allowed():
            self.written.append(self.bank.write(name, act).signature)

    @initialize()
    def first_champion(self) -> None:
        self.releases.append(self.bank.champion(1))
        self.service.start()

    @rule(people=st.integers(0, 2))
    def register(self, people: int) -> None:
        with self.allowed():
            self.releases.append(self.bank.made(len(self.releases) + 1, people))

    @rule(data=st.data())
    def change_catalogue(self, data: st.DataObject) -> None:
        with self.allowed():
            bundle = data.draw(st.integers(1, len(self.releases)))
            self.releases.append(self.bank.made(1000 + len(self.releases), bundle=bundle))

    @rule(data=st.data(), names=st.sampled_from([("ann",), ("bob",), ("ann", "bob")]))
    def approve(self, data: st.DataObject, names: tuple[str, ...]) -> None:
        with self.allowed():
            self.bank.approve(data.draw(st.sampled_from(self.releases)), *names)

    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        self.write("ann", Rejected(release=data.draw(st.sampled_from(self.releases)), reason="x"))

    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        with self.allowed():
            approval.begin(self.bank.ledger, signer("olga"), data.draw(st.sampled_from(self.releases)))

    @rule()
    def roll_back(self) -> None:
        with self.allowed():
            approval.begin_back(self.bank.ledger, signer("olga"), "shop", "errors")

    @rule()
    def retrain(self) -> None:
        self.write("trainer", RetrainingDecided(contract="shop", decision={}))

    @rule(failure=st.sampled_from(["away", "killed before", "killed after"]))
    def fail_next(self, failure: str) -> None:
        FAILURES[:] = [failure]

    @rule(broken=st.booleans())
    def break_predictor(self, broken: bool) -> None:
        self.service.broken = broken

    @precondition(lambda self: self.service.follower is not None)
    @rule()
    def follow(self) -> None:
        try:
            self.service.follower.step()  # type: ignore[union-attr]
            state = self.reader.state()
            champion = state.champion("shop")
            assert state.line("shop").promoting is None
            assert self.service.release == (champion.name if champion else None)
        except (ServiceError, StorageError):
            pass
        except Killed:
            self.service.kill()

    @rule()
    def kill_service(self) -> None:
        self.service.kill()

    @precondition(lambda self: self.service.follower is None)
    @rule()
    def start_service(self) -> None:
        self.service.ledger = Ledger(self.bank.store, self.bank.clock)
        self.service.start()

    @invariant()
    def one_serves_that_may(self) -> None:
        """Never a release that nobody approved; while nothing is under way and all went well, the champion."""
        state = self.reader.state()
        if self.service.release is not None:
            release = state.releases[self.service.release]
            begun = state.line("shop").promoting
            assert release.served or (begun is not None and getattr(begun.act, "release", "") == release.name)


class TestInterleavings(Interleavings.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


@pytest.mark.slow
class TestManyInterleavings(Interleavings.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(max_examples=500, stateful_step_count=40, deadline=None)
