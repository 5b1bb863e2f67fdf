"""Any order of register, approve, promote, roll back, kill and failure: what serves is what the ledger says."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from offers.errors import OffersError, ServiceError
from offers.governance import approval
from offers.governance.audit import verify
from offers.governance.canary import Canary, Judgement, canary_of
from offers.governance.entries import CanaryPlan, GateJudged, Rejected
from offers.governance.follower import Follower, Steps, first_to_serve
from offers.governance.ledger import Ledger
from offers.registry.mirror import HEAD, RELEASE, Mirror
from offers.retraining.journal import Decision, Journal, Request
from offers.retraining.retrainer import Limits, Retrainer
from tests.support.fate import Fate, FatefulStore, Killed
from tests.support.ledgers import Bank, signer
from tests.support.mlflow_double import MlflowDouble

PLAN = CanaryPlan(shares=(0.1, 0.5), seconds=60, customers=200)
GOOD = Judgement("", True, "all is well")
BAD = Judgement("it earns less", True, "figures")
NUMBER = st.integers(0, 99)


class Service:
    """Processes that serve a release; ends where it is killed, and begins anew with what the ledger says."""

    def __init__(self, ledger: Ledger, fate: Fate) -> None:
        self.ledger = ledger
        self.fate = fate
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
        self.fate.moment()
        if self.broken:
            raise ServiceError("its predictor did not start")
        self.release = release
        self.fate.moment(None)

    def answer(self, canary: Canary) -> None:
        self.fate.moment()
        if self.broken:
            raise ServiceError("its predictor has ended")
        self.challenger = canary.release, canary.share
        self.fate.moment(None)

    def clear(self) -> None:
        self.fate.moment(None)
        self.challenger = None

    def kill(self) -> None:
        self.release = self.follower = self.challenger = None


def act(method: Callable[..., None]) -> Callable[..., None]:
    """A refusal is an answer, a store that is away another, and one who is killed says nothing."""

    @wraps(method)
    def tried(self: "Interleaving", *given: Any, **named: Any) -> None:
        try:
            method(self, *given, **named)
        except OffersError:
            pass
        except Killed:
            # What the process had read of the ledger goes with it.
            self.bank.ledger = Ledger(self.bank.store, self.bank.clock)
            if method.__name__ in ("follow", "start"):
                self.service.ledger = Ledger(self.bank.store, self.bank.clock)
                self.service.kill()

    return tried


class Interleaving(RuleBasedStateMachine):
    """One bank, its people, its trigger, its services, and MLflow beside them."""

    kinds: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.fate = Fate()
        store = FatefulStore(self.fate)
        self.bank = Bank(store)  # type: ignore[arg-type]
        # It looks at the same objects, and nothing befalls it.
        self.reader = Ledger(FatefulStore(Fate(), store.objects), self.bank.clock)  # type: ignore[arg-type]
        self.mlflow = MlflowDouble(self.fate)
        self.releases = [self.bank.champion(1)]
        self.service = Service(Ledger(self.bank.store, self.bank.clock), self.fate)
        self.service.start()
        self.seen: list[str] = []
        self.started: list[str] = []

    @rule(people=st.integers(0, 2), bundle=NUMBER, new=st.booleans())
    @act
    def register(self, people: int, bundle: int, new: bool) -> None:
        if new:
            self.releases.append(self.bank.made(len(self.releases) + 1, people))
        else:
            self.releases.append(self.bank.made(1000 + len(self.releases), bundle=1 + bundle % len(self.releases)))

    @rule(which=NUMBER, verdict=st.sampled_from(["ann", "bob", "rejected"]))
    @act
    def judge(self, which: int, verdict: str) -> None:
        if verdict == "rejected":
            self.bank.write("ann", Rejected(release=self._one_of(which), reason="x"))
        else:
            self.bank.approve(self._one_of(which), verdict)

    @rule(which=st.integers(0, 2), plan=st.sampled_from([None, None, PLAN]))
    @act
    def promote(self, which: int, plan: CanaryPlan | None) -> None:
        approval.begin(self.bank.ledger, signer("olga"), self._one_of(which), plan)

    @rule(plan=st.sampled_from([None, None, PLAN]), looks=st.integers(0, 4))
    @act
    def replace_the_champion(self, plan: CanaryPlan | None, looks: int) -> None:
        """What a bank does all the time, from the candidate to the services; it may be cut off anywhere."""
        self.releases.append(self.bank.made(len(self.releases) + 1))
        self.bank.approve(self.releases[-1])
        approval.begin(self.bank.ledger, signer("olga"), self.releases[-1], plan)
        for _ in range(looks):
            self.follow(PLAN.seconds)

    @rule(looks=st.integers(0, 2))
    @act
    def roll_back(self, looks: int) -> None:
        line = self.bank.ledger.state().line("shop")
        if line.promoting is not None and canary_of(line) is not None:
            approval.give_up(self.bank.ledger, signer("olga"), line.promoting, "too many calls")
        else:
            approval.begin_back(self.bank.ledger, signer("olga"), "shop", "errors")
        for _ in range(looks):
            self.follow(1)

    @rule()
    @act
    def refuse(self) -> None:
        self.bank.write("trainer", GateJudged(contract="shop", bundle="", passed=False, evidence={}))

    @rule(request=st.sampled_from("abcdef"), ends=st.booleans())
    @act
    def retrain(self, request: str, ends: bool) -> None:
        started = list[str]()
        journal = Journal(self.bank.ledger, lambda: signer("trainer"), "shop")
        retrainer = Retrainer(journal, lambda request, run: started.append(run), Limits(timedelta(seconds=90)))
        decision = retrainer.ask(Request(id=request, contract="shop", cause="alarm"))
        # The same alarm starts one run, however often and by however many processes it is asked.
        assert started in ([], [decision.run])
        if started:
            assert started[0] not in self.started
            self.started += started
        if ends and decision.started:
            journal.ended(decision.run, succeeded=True, bundle="s3://bank/bundles/shop-1")

    @rule(judgement=st.sampled_from([None, GOOD, BAD]), broken=st.booleans())
    def change_the_world(self, judgement: Judgement | None, broken: bool) -> None:
        self.service.says, self.service.broken = judgement, broken

    @rule(kind=st.sampled_from(["killed", "away", "service"]), passes=st.integers(0, 12))
    def strike(self, kind: str, passes: int) -> None:
        """Sooner or later in what comes next; or the services are killed now, while they wait."""
        if kind == "service":
            self.service.kill()
        else:
            self.fate.arm(kind, passes)

    @rule(seconds=st.sampled_from([1, 100]))
    @act
    def follow(self, seconds: int) -> None:
        self.bank.clock.moment += timedelta(seconds=seconds)
        if self.service.follower is None:
            self.service.start()
        else:
            self.service.follower.step()
            self._check_recovered()

    @rule()
    @act
    def mirror(self) -> None:
        Mirror(self.mlflow, self.bank.ledger, Path("/nowhere")).sync()  # type: ignore[arg-type]

    @invariant()
    def nothing_is_lost_and_nobody_serves_unasked(self) -> None:
        entries = [entry.signature for entry in self.reader.entries()]
        assert entries[: len(self.seen)] == self.seen
        self.seen = entries
        if self.service.release is not None:
            state = self.reader.state()
            begun = state.line("shop").promoting
            released = state.releases[self.service.release]
            assert released.served or (begun is not None and getattr(begun.act, "release", "") == released.name)

    def teardown(self) -> None:
        """All is well again: after a few looks, services and MLflow show what the ledger says."""
        self.fate.spare()
        self.service.broken, self.service.says = False, GOOD
        for _ in range(6):
            self.follow(PLAN.seconds)
        self._check_recovered()
        assert self.reader.state().line("shop").promoting is None
        self._check_runs()
        self._check_mirror()
        assert verify(self.bank.store).problems == ()
        self.kinds.update(entry.act.kind for entry in self.reader.entries())

    def _one_of(self, which: int) -> str:
        """One of the releases, counted from the newest."""
        return self.releases[-1 - which % len(self.releases)]

    def _check_recovered(self) -> None:
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

    def _check_runs(self) -> None:
        journal = Journal(self.reader, lambda: signer("trainer"), "shop")
        decided = [entry.run for entry in journal.entries() if isinstance(entry, Decision) and entry.started]
        # Who was killed after the entry may not have started its run; nobody started one without its entry.
        assert set(self.started) <= set(decided)
        assert len(decided) == len(set(decided))

    def _check_mirror(self) -> None:
        Mirror(self.mlflow, self.reader, Path("/nowhere")).sync()  # type: ignore[arg-type]
        state, shown = self.reader.state(), {name: tags[RELEASE] for name, tags in self.mlflow.versions.items()}
        expected = {"champion": state.champion("shop"), "challenger": state.challenger("shop")}
        present = {alias: shown[version] for alias, version in self.mlflow.aliases.items()}
        assert present == {alias: release.name for alias, release in expected.items() if release is not None}
        assert sorted(shown.values()) == sorted(state.releases)
        refusals = [e for e in self.reader.entries() if isinstance(e.act, GateJudged) and not e.act.passed]
        bundles = {release.act.bundle for release in state.releases.values()}
        assert Counter(self.mlflow.statuses.values()) == Counter(FINISHED=len(bundles), FAILED=len(refusals))
        assert self.mlflow.models["shop"][HEAD] == str(self.reader.head)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("count", "least"), [(40, 0), pytest.param(500, 20, marks=pytest.mark.nightly)])
def test_what_serves_is_what_the_ledger_says(count: int, least: int) -> None:
    Interleaving.kinds.clear()
    run_state_machine_as_test(Interleaving, settings=settings(max_examples=count, stateful_step_count=50))
    kinds = Interleaving.kinds
    ends = ("promoted", "returned", "rolled back", "rejected", "canary step", "retraining decided", "retraining ended")
    assert min(kinds[kind] for kind in ends) >= least, kinds
