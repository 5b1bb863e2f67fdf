"""A canary: what the decision log says of a challenger, and what a follower makes of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from offers.contract import contract as contracts
from offers.decisions import log
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import LedgerError, OffersError, ServiceError, StorageError
from offers.experiments.assignment import positions
from offers.governance import approval
from offers.governance.audit import verify
from offers.governance.canary import Canary, Judgement, judge, plan
from offers.governance.entries import CanaryPlan, CanaryStepped, Promoted
from offers.governance.follower import Follower, Steps
from offers.settings import Settings
from offers.store.delta import DeltaTables
from offers.store.directory import DirectoryStore
from tests.support.decision_log import KEY, NOON, answered, outcome, policy_event
from tests.support.ledgers import Bank, signer
from tests.support.rankers import someone
from tests.support.shop import SHOP
from tests.support.warranties import WARRANTIES

CONTRACT = contracts.parse(
    SHOP.replace("{name: region, role: customer,", "{name: region, role: customer, protected: true,")
)
OFFERED = WARRANTIES.replace("reason: FAR_AWAY\n", "reason: FAR_AWAY\n        justification: a drill\n")
NORTH_ALONE = OFFERED.replace(
    "eligibility:\n", "eligibility:\n  - {reason: NORTH, column: region, equals: north, justification: a drill}\n", 1
)
HOUR = timedelta(hours=1)
CUSTOMERS = 1500
PLAN = CanaryPlan(shares=(0.4, 0.7), seconds=60, customers=200, outcomes=200)
CANARY = Canary("shop-release-2", "canary-9", PLAN, ((0.4, NOON - HOUR),))


@dataclass
class World:
    """Customers who accept an arm's first offer with a known probability, and how the challenger answers them."""

    accepted: float
    catalogue: str = OFFERED
    away: float = 0.0
    latency: float = 3.0

    def logged(self, directory: Path, canary: Canary = CANARY, seed: int = 0) -> DeltaTables:
        """Log all steps of a canary, each of other customers, with their outcomes."""
        generator = np.random.default_rng(seed)
        spool = Spool(directory / "spool", "pod", SpoolLimits())
        for catalogue in {OFFERED, self.catalogue}:
            spool.append(policy_event(CONTRACT, catalogue))
        for number, (share, began) in enumerate(canary.steps):
            for arm in ("control", "challenger"):
                self._log(spool, canary.name, (number, arm, share), began, generator)
        spool.seal()
        tables = DeltaTables.at(str(directory / "tables"), Settings())
        assert not [one for one in ship(spool.directory, tables) if one.refusal]
        return tables

    def _log(
        self, spool: Spool, name: str, step: tuple[int, str, float], began: datetime, generator: np.random.Generator
    ) -> None:
        number, arm, share = step
        challenges = arm == "challenger"
        crowd = [
            someone(f"{number}-{one}", region="north" if one % 2 else "south", spending=600.0)
            for one in range(CUSTOMERS)
        ]
        below = positions(name, [KEY.of(one["customer_id"]) for one in crowd]) < share
        members = [one for one, inside in zip(crowd, below, strict=True) if inside == challenges]
        first = 10_000 * (2 * number + challenges)
        moment = began + timedelta(seconds=5)
        answer = answered(CONTRACT, members, first, moment, self.catalogue if challenges else OFFERED, seed=number)
        answer = replace(
            answer, experiment=name, arms=[arm] * len(members), latency_ms=self.latency if challenges else 3.0
        )
        if challenges:
            answer = replace(answer, model="shop-1" if generator.random() < self.away else "shop-2")
        spool.append(log.decided(answer))
        truth = generator.random(len(members)) < (self.accepted if challenges else 0.3)
        kinds = [("accepted" if yes else "declined") for yes in truth]
        after = moment - NOON + timedelta(seconds=5)
        told = [outcome(f"{first + place:032x}", kind, after) for place, kind in enumerate(kinds)]
        spool.append(log.observed(told, moment + timedelta(seconds=9), "r"))


@pytest.mark.parametrize(
    ("world", "sentence"),
    [
        (World(accepted=0.32), ""),
        (World(accepted=0.1), "it earns less: -"),
        (World(accepted=0.32, away=1.0), "answers without its predictor: 100.0% against the champion's 0.0%"),
        (World(accepted=0.32, latency=90.0), "latency: 90.0 ms against the champion's 3.0 ms"),
        (World(accepted=0.9, catalogue=NORTH_ALONE), "exposure by region: 0.0% against the champion's 100.0%"),
    ],
    ids=["good", "poor", "errors", "slow", "unfair"],
)
def test_a_harmful_challenger_is_told_from_a_good_one(world: World, sentence: str, tmp_path: Path) -> None:
    judgement = judge(world.logged(tmp_path), CANARY, "shop-2", NOON)
    if sentence:
        assert judgement.harm.startswith("at 40%: ")
        assert sentence in judgement.harm
    else:
        assert judgement.harm == ""
    assert judgement.enough
    assert "EUR per customer" in judgement.evidence


def test_outcomes_of_an_earlier_step_still_end_a_canary(tmp_path: Path) -> None:
    canary = replace(CANARY, steps=((0.4, NOON - HOUR), (0.7, NOON - HOUR / 2)))
    first = World(accepted=0.1).logged(tmp_path)
    judgement = judge(first, canary, "shop-2", NOON)
    assert judgement.harm.startswith("at 40%: it earns less")
    assert (judgement.enough, judgement.evidence) == (False, "no decision of this step is logged yet")
    assert not judge(World(accepted=0.3).logged(tmp_path / "good", canary), canary, "shop-2", NOON).harm
    assert not judge(DeltaTables.at(str(tmp_path / "none"), Settings()), canary, "shop-2", NOON).enough


def test_a_step_needs_its_customers_and_their_outcomes(tmp_path: Path) -> None:
    tables = World(accepted=0.3).logged(tmp_path)
    for more in ({"customers": 5000}, {"outcomes": 5000}):
        assert not judge(tables, replace(CANARY, plan=PLAN.model_copy(update=more)), "shop-2", NOON).enough


@pytest.mark.parametrize("steps", ["", "50,25", "5,5", "0,50", "50,100", "many", "-1,5", "5,,25", "nan"])
def test_steps_that_do_not_rise_are_refused(steps: str) -> None:
    with pytest.raises(LedgerError, match="expected percentages that rise, each between 0 and 100"):
        plan(steps, "1h", 500, 0)


def test_the_settings_of_a_canary() -> None:
    assert plan("5,25,50", "1h", 500, 0) == CanaryPlan(shares=(0.05, 0.25, 0.5), seconds=3600, customers=500)
    assert plan("1%, 10", "30m", 200, 50) == CanaryPlan(shares=(0.01, 0.1), seconds=1800, customers=200, outcomes=50)
    with pytest.raises(LedgerError, match="--customers: expected 200 or more, which the guardrails need, got 199"):
        plan("5", "1h", 199, 0)
    with pytest.raises(OffersError, match="span 'soon'"):
        plan("5", "soon", 500, 0)


@dataclass
class Services:
    """What serves, and what the test lets the log say."""

    release: str
    challenger: tuple[str, float] = ("", 0.0)
    says: Judgement | None = None
    broken: str = ""
    seen: list[float] = field(default_factory=list)

    def switch(self, release: str) -> None:
        self.release = release

    def answer(self, canary: Canary) -> None:
        if self.broken:
            raise ServiceError(self.broken)
        self.challenger = canary.release, canary.share
        self.seen.append(canary.share)

    def clear(self) -> None:
        self.challenger = "", 0.0

    def judge(self, canary: Canary, bundle: str, moment: datetime) -> Judgement | None:
        return self.says


GOOD = Judgement("", True, "all is well")


@dataclass
class Ramp:
    """A bank with a champion, and an approved challenger whose canary has begun."""

    bank: Bank
    champion: str
    challenger: str
    services: Services

    def follower(self) -> Follower:
        steps = Steps(self.services.answer, self.services.clear, self.services.judge)
        return Follower(self.bank.ledger, signer("olga"), "shop", self.services.switch, self.services.release, steps)

    def rest(self, seconds: float = 61) -> None:
        self.bank.clock.moment += timedelta(seconds=seconds)

    @property
    def kinds(self) -> list[str]:
        return [entry.act.kind for entry in self.bank.ledger.entries()][self.start :]

    start: int = 0


@pytest.fixture
def ramp(tmp_path: Path) -> Iterator[Ramp]:
    bank = Bank(DirectoryStore(tmp_path))
    champion, challenger = bank.champion(1), bank.made(2)
    bank.approve(challenger)
    begun = approval.begin(bank.ledger, signer("olga"), challenger, PLAN)
    ramp = Ramp(bank, champion, challenger, Services(champion), begun.number)
    yield ramp
    assert verify(bank.store).holds


def test_a_good_challenger_grows_by_steps_and_becomes_champion(ramp: Ramp) -> None:
    follower, services = ramp.follower(), ramp.services
    for _ in range(3):
        follower.step()
    assert services.challenger == (ramp.challenger, 0.4)
    services.says = GOOD
    follower.step()
    assert services.challenger[1] == 0.4, "it has not baked yet"
    ramp.rest()
    services.says = replace(GOOD, enough=False)
    follower.step()
    assert services.challenger[1] == 0.4, "it has not been seen by enough"
    services.says = GOOD
    for _ in range(10):
        ramp.rest()
        follower.step()
    assert services.seen[-1] == 0.7
    assert (services.release, services.challenger) == (ramp.challenger, ("", 0.0))
    assert ramp.kinds == ["promoting", "canary step", "canary step", "canary step", "promoted"]
    steps = [entry.act for entry in ramp.bank.ledger.entries() if isinstance(entry.act, CanaryStepped)]
    assert [(act.share, act.evidence) for act in steps] == [
        (0.4, "the first step"), (0.7, "all is well"), (1.0, "all is well")
    ]  # fmt: skip


@pytest.mark.parametrize("way", ["harm", "broken", "a person"])
def test_it_is_returned_and_the_champion_answers_everybody(ramp: Ramp, way: str) -> None:
    follower, services = ramp.follower(), ramp.services
    for _ in range(2):
        follower.step()
    assert services.challenger[1] == 0.4
    if way == "harm":
        services.says = Judgement("at 40%: it earns less", True, "figures")
    elif way == "broken":
        services.broken = "its predictor has ended"
    else:
        promoting = ramp.bank.ledger.state().line("shop").promoting
        assert promoting is not None
        approval.give_up(ramp.bank.ledger, signer("olga"), promoting, "too many calls")
    for _ in range(3):
        follower.step()
    assert (services.release, services.challenger) == (ramp.champion, ("", 0.0))
    assert ramp.kinds == ["promoting", "canary step", "returned"]
    reasons = {
        "harm": "at 40%: it earns less. figures",
        "broken": "its predictor has ended",
        "a person": "too many calls",
    }
    assert ramp.bank.ledger.entries()[-1].act.reason == reasons[way]  # type: ignore[union-attr]
    # It has answered customers, of which those who approved it could not know.
    state = ramp.bank.ledger.state()
    assert state.status(state.releases[ramp.challenger], ramp.bank.clock.moment) == "withdrawn"
    with pytest.raises(LedgerError, match="it is withdrawn"):
        approval.begin(ramp.bank.ledger, signer("olga"), ramp.challenger)


def test_another_process_goes_on_where_the_killed_one_was(ramp: Ramp) -> None:
    first, services = ramp.follower(), ramp.services
    services.says = GOOD
    for _ in range(2):
        ramp.rest()
        first.step()
    assert ramp.kinds == ["promoting", "canary step", "canary step"]
    services.challenger = "", 0.0
    second = ramp.follower()
    services.says = None
    second.step()
    assert services.challenger == (ramp.challenger, 0.7)
    services.says = GOOD
    for _ in range(3):
        ramp.rest()
        second.step()
    assert (services.release, ramp.kinds[-1]) == (ramp.challenger, "promoted")


def test_a_harmful_one_answers_nobody_while_the_ledger_is_away(ramp: Ramp, monkeypatch: pytest.MonkeyPatch) -> None:
    follower, services = ramp.follower(), ramp.services
    for _ in range(2):
        follower.step()
    services.says = Judgement("at 40%: it earns less", True, "figures")

    def away(*_: object) -> bool:
        raise StorageError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore, "create", away)
        for _ in range(3):
            with pytest.raises(StorageError):
                follower.step()
            assert services.challenger == ("", 0.0)
    services.says = None
    follower.step()
    assert ramp.kinds[-1] == "returned"


def test_services_without_canaries_return_it(ramp: Ramp) -> None:
    services = ramp.services
    Follower(ramp.bank.ledger, signer("olga"), "shop", services.switch, services.release).step()
    assert ramp.kinds == ["promoting", "returned"]
    state = ramp.bank.ledger.state()
    assert state.status(state.releases[ramp.challenger], ramp.bank.clock.moment) == "approved"


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (
            lambda ramp: CanaryStepped(release=ramp.challenger, share=0.7, evidence=""),
            "next step: expected .* 0.4, got 0.7",
        ),
        (
            lambda ramp: CanaryStepped(release=ramp.champion, share=0.4, evidence=""),
            "no promotion of release .* by steps",
        ),
        (lambda ramp: Promoted(release=ramp.challenger), "is at step 0 of 3, not at its end"),
    ],
)
def test_no_step_is_left_out(ramp: Ramp, write: Callable[[Ramp], CanaryStepped | Promoted], sentence: str) -> None:
    act = write(ramp)
    with pytest.raises(LedgerError, match=sentence):
        ramp.bank.ledger.write(signer("olga"), lambda state: act)


def test_a_first_release_has_no_canary(tmp_path: Path) -> None:
    bank = Bank(DirectoryStore(tmp_path))
    first = bank.made(1, people=0)
    with pytest.raises(LedgerError, match="a canary needs a champion"):
        approval.begin(bank.ledger, signer("olga"), first, PLAN)
