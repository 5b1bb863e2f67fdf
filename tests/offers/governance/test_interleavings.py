"""Any order of register, approve, promote, roll back, kill and failure: what serves is what the ledger says."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from random import Random

import pytest

from offers.errors import LedgerError, ServiceError, StorageError
from offers.governance import approval
from offers.governance.audit import verify
from offers.governance.canary import Canary, Judgement, canary_of
from offers.governance.entries import CanaryPlan, GateJudged, Rejected
from offers.governance.follower import Follower, Steps, first_to_serve
from offers.governance.ledger import Ledger
from offers.retraining.journal import Decision, Journal, Request
from offers.retraining.retrainer import Limits, Retrainer
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
PLAN = CanaryPlan(shares=(0.1, 0.5), seconds=60, customers=200)
GOOD = Judgement("", True, "all is well")


class Service:
    """Processes that serve a release; ends where it is killed, and begins anew with what the ledger says."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.broken = False
        self.says: Judgement | None = None
        self.release: str | None = None
        self.challenger: tuple[str, float] | None = None
        self.follower: Follower | None = None

    def start(self) -> None:
        release = first_to_serve(self.ledger.state(), "shop")
        if release is not None:
            self.release = release
            self.challenger = None
            steps = Steps(self.answer, self.clear, lambda canary, bundle, moment: self.says)
            self.follower = Follower(self.ledger, signer("olga"), "shop", self.switch, release, steps)

    def switch(self, release: str) -> None:
        if self.broken:
            raise ServiceError("its predictor did not start")
        self.release = release

    def answer(self, canary: Canary) -> None:
        if self.broken:
            raise ServiceError("its predictor has ended")
        self.challenger = canary.release, canary.share

    def clear(self) -> None:
        self.challenger = None

    def kill(self) -> None:
        self.release = self.follower = self.challenger = None


class Interleaving:
    """One bank, one service, and one die that says what happens next."""

    def __init__(self, seed: int) -> None:
        FAILURES.clear()
        self.random = Random(seed)
        self.bank = Bank(FlakyStore())  # type: ignore[arg-type]
        self.reader = Ledger(self.bank.store)
        self.releases = [self.bank.champion(1)]
        self.service = Service(Ledger(self.bank.store, self.bank.clock))
        self.service.start()
        self.seen: list[str] = []
        self.started: list[str] = []
        self.actions: dict[Callable[[], object], int] = {
            self.register: 2,
            self.change_catalogue: 1,
            self.register_and_approve: 3,
            self.approve: 2,
            self.reject: 1,
            self.promote: 8,
            self.promote_by_steps: 3,
            self.judge: 4,
            self.stop_canary: 1,
            self.roll_back: 6,
            self.refuse: 1,
            self.retrain: 3,
            self.fail_next: 3,
            self.break_or_mend: 2,
            self.follow: 8,
            self.service.kill: 1,
            self.service.start: 2,
        }

    def run(self, actions: int) -> None:
        for action in self.random.choices(list(self.actions), list(self.actions.values()), k=actions):
            self.act(action)
            self.check()
        FAILURES.clear()
        self.service.broken, self.service.says = False, GOOD
        if self.service.follower is None:
            self.service.start()
        for _ in range(5):
            self.bank.clock.moment += timedelta(seconds=PLAN.seconds)
            self.follow()
        self.check_recovered()
        assert self.reader.state().line("shop").promoting is None
        journal = Journal(self.reader, lambda: signer("trainer"), "shop")
        decided = [entry.run for entry in journal.entries() if isinstance(entry, Decision) and entry.started]
        # Who was killed after the entry may not have started its run; nobody started one without its entry.
        assert set(self.started) <= set(decided)
        assert len(decided) == len(set(decided))
        assert verify(self.bank.store).problems == ()

    def act(self, action: Callable[[], object]) -> None:
        """A refusal is an answer, a store that is away another, and one who is killed says nothing."""
        try:
            action()
        except (LedgerError, StorageError, ServiceError):
            pass
        except Killed:
            self.bank.ledger = Ledger(self.bank.store, self.bank.clock)
            if action == self.follow:
                self.service.kill()

    def check(self) -> None:
        """Nothing that was seen is gone, and never does a release serve that nobody let."""
        entries = [entry.signature for entry in self.reader.entries()]
        assert entries[: len(self.seen)] == self.seen
        self.seen = entries
        if self.service.release is not None:
            state = self.reader.state()
            begun = state.line("shop").promoting
            released = state.releases[self.service.release]
            assert released.served or (begun is not None and getattr(begun.act, "release", "") == released.name)

    def check_recovered(self) -> None:
        state = self.reader.state()
        champion, line = state.champion("shop"), state.line("shop")
        assert champion is not None
        assert self.service.release == champion.name
        canary = canary_of(line)
        assert canary is not None or line.promoting is None
        if self.service.challenger is not None:
            name, share = self.service.challenger
            assert canary is not None
            assert (canary.release, name) == (name, canary.release)
            # The entry of the next step comes first, and the services follow.
            assert share in (canary.share, (0.0, *canary.plan.shares)[len(canary.steps) - 1])

    def register(self) -> None:
        self.releases.append(self.bank.made(len(self.releases) + 1, self.random.randint(0, 2)))

    def change_catalogue(self) -> None:
        bundle = self.random.randint(1, len(self.releases))
        self.releases.append(self.bank.made(1000 + len(self.releases), bundle=bundle))

    def register_and_approve(self) -> None:
        self.releases.append(self.bank.made(len(self.releases) + 1))
        self.bank.approve(self.releases[-1])

    def approve(self) -> None:
        self.bank.approve(self.random.choice(self.releases), self.random.choice(["ann", "bob"]))

    def reject(self) -> None:
        self.bank.write("ann", Rejected(release=self.random.choice(self.releases), reason="x"))

    def promote(self) -> None:
        approval.begin(self.bank.ledger, signer("olga"), self.random.choice(self.releases[-3:]))

    def promote_by_steps(self) -> None:
        approval.begin(self.bank.ledger, signer("olga"), self.random.choice(self.releases[-3:]), PLAN)

    def judge(self) -> None:
        self.service.says = self.random.choice([None, GOOD, GOOD, GOOD, Judgement("it earns less", True, "figures")])

    def stop_canary(self) -> None:
        line = self.bank.ledger.state().line("shop")
        if line.promoting is not None and canary_of(line) is not None:
            approval.give_up(self.bank.ledger, signer("olga"), line.promoting, "too many calls")

    def roll_back(self) -> None:
        approval.begin_back(self.bank.ledger, signer("olga"), "shop", "errors")

    def refuse(self) -> None:
        self.bank.write("trainer", GateJudged(contract="shop", bundle="", passed=False, evidence={}))

    def retrain(self) -> None:
        started = list[str]()
        journal = Journal(self.bank.ledger, lambda: signer("trainer"), "shop")
        request = Request(id=self.random.choice("abcdef"), contract="shop", cause="alarm")
        retrainer = Retrainer(journal, lambda request, run: started.append(run), Limits(timedelta(seconds=90)))
        decision = retrainer.ask(request)
        # The same alarm starts one run, however often and by however many processes it is asked.
        assert started in ([], [decision.run])
        if started:
            assert started[0] not in self.started
            self.started += started
        if self.random.random() < 0.7 and decision.started:
            journal.ended(decision.run, succeeded=True, bundle="s3://bank/bundles/shop-1")

    def fail_next(self) -> None:
        FAILURES[:] = [self.random.choice(["away", "killed before", "killed after"])]

    def break_or_mend(self) -> None:
        self.service.broken = self.random.random() < 0.5

    def follow(self) -> None:
        self.bank.clock.moment += timedelta(seconds=self.random.choice([1, 100]))
        if self.service.follower is not None:
            self.service.follower.step()
            self.check_recovered()


@pytest.mark.parametrize("seeds", [range(30), pytest.param(range(30, 500), marks=pytest.mark.nightly)], ids=len)
def test_what_serves_is_what_the_ledger_says(seeds: range) -> None:
    kinds = Counter[str]()
    for seed in seeds:
        interleaving = Interleaving(seed)
        interleaving.run(actions=40)
        kinds.update(entry.act.kind for entry in interleaving.reader.entries())
    ends = ("promoted", "returned", "rolled back", "rejected", "canary step", "retraining decided", "retraining ended")
    assert min(kinds[kind] for kind in ends) >= len(seeds) / 10
