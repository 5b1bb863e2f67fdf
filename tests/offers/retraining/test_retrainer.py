"""Requests for a new model: what is started, what is not, and what is written down."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from offers.errors import LedgerError, ServiceError
from offers.governance.audit import verify
from offers.governance.ledger import Ledger
from offers.retraining.journal import Decision, Journal, Outcome, Request
from offers.retraining.retrainer import Limits, Retrainer, again, decide, grown, learnable, run_name, scheduled
from offers.store.directory import DirectoryStore
from tests.support.ledgers import Bank, journal_at, signer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """Tells the time that the test sets, a microsecond later each time it is asked."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        self.moment += timedelta(microseconds=1)
        return self.moment


class Starts(list[str]):
    def __call__(self, request: Request, run: str) -> None:
        self.append(run)


def request(number: int = 1, **given: object) -> Request:
    return Request.model_validate({"id": f"r{number}", "contract": "shop", "cause": "alarm"} | given)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Journal:
    return journal_at(tmp_path, "shop", clock)


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
def retrainer(journal: Journal, starts: Starts) -> Retrainer:
    return Retrainer(journal, starts, Limits(timedelta(days=1), timedelta(hours=6)))


def test_an_alarm_starts_a_run_and_says_why(retrainer: Retrainer, starts: Starts, journal: Journal) -> None:
    decision = retrainer.ask(request(evidence={"reasons": ["age: KS distance 0.31", "score: PSI 0.4"]}))
    assert decision.started
    assert decision.reason == "drift was seen: age: KS distance 0.31; score: PSI 0.4"
    assert starts == [decision.run]
    assert journal.entries() == [decision]


def test_the_same_alarm_twice_starts_one_run(retrainer: Retrainer, starts: Starts, journal: Journal) -> None:
    first = retrainer.ask(request())
    assert retrainer.ask(request()) == first
    assert len(starts) == len(journal.entries()) == 1


def test_two_alarms_at_the_same_time_start_one_run(retrainer: Retrainer, starts: Starts, journal: Journal) -> None:
    with ThreadPoolExecutor(8) as pool:
        decisions = list(pool.map(retrainer.ask, (request(number) for number in range(8))))
    assert [decision.started for decision in decisions].count(True) == 1
    assert len(starts) == 1
    assert len(journal.entries()) == 8
    refused = next(decision for decision in decisions if not decision.started)
    assert refused.reason == f"{starts[0]} is under way since 0 seconds: one run at a time"


def test_a_cool_down_follows_a_run(retrainer: Retrainer, starts: Starts, clock: Clock) -> None:
    run = retrainer.ask(request(1)).run
    retrainer.journal.ended(run, succeeded=True, bundle="shop-0123456789abcdef")
    clock.moment += timedelta(hours=20)
    decision = retrainer.ask(request(2, cause="schedule"))
    assert not decision.started
    assert decision.reason == f"{run} began 20 hours ago: the cool-down lasts another 3 hours"
    assert retrainer.ask(request(3, cause="manual")).started
    assert len(starts) == 2


def update(number: int, **given: object) -> Request:
    return request(number, action="update", evidence={"bundle": "shop-0123456789abcdef"}, **given)


def test_an_update_neither_starts_nor_awaits_the_cool_down_of_trainings(
    retrainer: Retrainer, journal: Journal, clock: Clock
) -> None:
    journal.ended(retrainer.ask(request(1)).run, succeeded=True)
    clock.moment += timedelta(hours=20)
    for number in range(2, 12):
        decision = retrainer.ask(update(number))
        assert decision.started, decision.reason
        journal.ended(decision.run, succeeded=True)
        refused = retrainer.ask(update(number + 100))
        assert "the cool-down lasts another" in refused.reason
        clock.moment += timedelta(minutes=30)
    # 25 hours after the training, and half an hour after an update.
    assert retrainer.ask(request(50)).started


def test_an_update_waits_for_a_training_that_is_under_way(retrainer: Retrainer) -> None:
    run = retrainer.ask(request(1)).run
    assert retrainer.ask(update(2)).reason.startswith(f"{run} is under way")


def test_new_labels_ask_for_an_update_once_there_are_enough() -> None:
    assert learnable("shop", "shop-0123456789abcdef", 1249, 1000, 250) is None
    asked = learnable("shop", "shop-0123456789abcdef", 1250, 1000, 250)
    assert asked is not None
    assert (asked.action, asked.evidence["bundle"]) == ("update", "shop-0123456789abcdef")
    assert asked == learnable("shop", "shop-0123456789abcdef", 1250, 1000, 250)


def test_a_schedule_of_trainings_does_not_count_updates(journal: Journal, retrainer: Retrainer, clock: Clock) -> None:
    journal.ended(retrainer.ask(request(1)).run, succeeded=True)
    clock.moment += timedelta(days=7)
    retrainer.ask(update(2))
    asked = scheduled("shop", journal.entries(), timedelta(days=7), NOON, clock())
    assert asked is not None


def test_after_the_cool_down_a_run_starts_again(retrainer: Retrainer, clock: Clock) -> None:
    retrainer.journal.ended(retrainer.ask(request(1)).run, succeeded=True)
    clock.moment += timedelta(hours=25)
    assert retrainer.ask(request(2, cause="new data")).started


def test_pause_after_broken_runs_grows_to_the_cool_down(journal: Journal, starts: Starts, clock: Clock) -> None:
    retrainer = Retrainer(journal, starts, Limits(timedelta(hours=3), back_off=timedelta(hours=1), runs_a_day=10))
    for number, hours in enumerate((1, 2, 3, 3)):
        journal.ended(retrainer.ask(request(number, cause="manual")).run, succeeded=False, note="the disk is full")
        refused = retrainer.ask(request(100 + number))
        assert not refused.started
        assert f"the pause after {number + 1} failed lasts" in refused.reason
        clock.moment += timedelta(hours=hours, minutes=-1)
        assert not retrainer.ask(request(200 + number)).started
        clock.moment += timedelta(minutes=2)
    assert retrainer.ask(request(5)).started


def test_runs_of_a_day_have_a_ceiling(journal: Journal, starts: Starts, clock: Clock) -> None:
    retrainer = Retrainer(journal, starts, Limits(timedelta(0), back_off=timedelta(0), runs_a_day=3))
    for number in range(50):
        decision = retrainer.ask(request(number))
        if decision.started:
            journal.ended(decision.run, succeeded=False, note="it broke down")
    assert len(starts) == 3
    assert decision.reason == "3 runs began within 24 hours: no more than 3 may"
    assert retrainer.ask(request(51, cause="manual")).started
    clock.moment += timedelta(hours=25)
    assert retrainer.ask(request(52)).started


def test_a_run_without_an_end_is_taken_for_dead_in_the_end(retrainer: Retrainer, clock: Clock) -> None:
    retrainer.ask(request(1))
    clock.moment += timedelta(hours=5)
    assert not retrainer.ask(request(2, cause="manual")).started
    clock.moment += timedelta(hours=2)
    assert retrainer.ask(request(3, cause="manual")).started


def test_a_run_that_can_not_be_started_is_written_down(journal: Journal) -> None:
    def refuse(request: Request, run: str) -> None:
        raise ServiceError("no cluster answers")

    with pytest.raises(ServiceError, match="no cluster answers"):
        Retrainer(journal, refuse).ask(request())
    decision, outcome = journal.entries()
    assert isinstance(decision, Decision)
    assert decision.started
    assert outcome == Outcome(
        at=outcome.at, run=decision.run, succeeded=False, note="it could not be started: no cluster answers"
    )


def test_names_of_runs_follow_from_the_request() -> None:
    assert run_name(request(1)) == run_name(request(1)) != run_name(request(2))
    assert run_name(request(1, action="recalibrate")).startswith("recalibrate-shop-")


def test_a_schedule_counts_from_the_last_run(journal: Journal, retrainer: Retrainer) -> None:
    week, began = timedelta(days=7), NOON - timedelta(days=3)
    assert scheduled("shop", [], week, began, NOON) is None
    due = scheduled("shop", [], week, began, NOON + timedelta(days=4))
    assert due is not None
    assert due.evidence["reasons"] == ["the last run began 7 days ago, one is due every 7 days"]
    retrainer.ask(request(1, cause="manual"))
    history = journal.entries()
    assert scheduled("shop", history, week, began, NOON + timedelta(days=6)) is None
    days = [scheduled("shop", history, week, began, NOON + timedelta(days=8, hours=hour)) for hour in (0, 1, 30)]
    assert [day.id for day in days if day] == ["schedule-2026-03-09", "schedule-2026-03-09", "schedule-2026-03-10"]


def test_new_rows_ask_once_there_are_enough() -> None:
    assert grown("shop", 10_499, 10_000, 500, NOON) is None
    asked = grown("shop", 10_500, 10_000, 500, NOON)
    assert asked is not None
    assert asked.evidence["reasons"] == ["10500 rows, 10000 when the present model was trained"]
    assert grown("shop", 9_000, 10_000, 500, NOON) is None


def test_an_empty_history_starts_a_run() -> None:
    decision = decide(request(cause="schedule"), [], Limits(), NOON)
    assert decision.started
    assert decision.reason == "its time has come"


def test_a_run_ends_once(journal: Journal, retrainer: Retrainer) -> None:
    run = retrainer.ask(request()).run
    journal.ended(run, succeeded=True, bundle="s3://bank/bundles/shop-1")
    journal.ended(run, succeeded=False, note="somebody else saw another end")
    _, outcome = journal.entries()
    assert isinstance(outcome, Outcome)
    assert (outcome.succeeded, outcome.bundle) == (True, "s3://bank/bundles/shop-1")


def test_decisions_and_ends_are_entries_of_the_ledger(journal: Journal, retrainer: Retrainer, clock: Clock) -> None:
    evidence = {"bundle": "shop-1", "reasons": ["age: KS distance 0.31"], "report": {"n": 2000, "share": 0.25}}
    decision = retrainer.ask(request(evidence=evidence))
    journal.ended(decision.run, succeeded=False, note="note " * 1000, lost=True)
    acts = [entry.act for entry in journal.ledger.entries()]
    assert [act.kind for act in acts] == ["key added", "retraining decided", "retraining ended"]
    again = Journal(Ledger(journal.ledger.store, clock), lambda: signer("trainer"), "shop")
    assert again.entries() == journal.entries()
    first, last = again.entries()
    assert first == decision
    assert decision.request.evidence == evidence
    assert isinstance(last, Outcome)
    assert (last.lost, len(last.note)) == (True, 2000)
    assert Journal(journal.ledger, lambda: signer("trainer"), "other").entries() == []
    assert verify(journal.ledger.store, [journal.ledger.head] if journal.ledger.head else []).holds


def test_whoever_approves_does_not_train(tmp_path: Path, starts: Starts) -> None:
    bank = Bank(DirectoryStore(tmp_path))
    retrainer = Retrainer(Journal(bank.ledger, lambda: signer("ann"), "shop"), starts)
    with pytest.raises(LedgerError, match="ann has no role trainer or operator, which 'retraining decided' asks for"):
        retrainer.ask(request())
    assert starts == []


def test_an_entry_that_was_changed_is_named_and_starts_nothing(
    journal: Journal, retrainer: Retrainer, starts: Starts, tmp_path: Path
) -> None:
    retrainer.ask(request())
    path = tmp_path / "ledger" / "000000001.json"
    path.write_bytes(path.read_bytes().replace(b'"started":true', b'"started":null'))
    other = Retrainer(Journal(Ledger(journal.ledger.store), lambda: signer("trainer"), "shop"), starts)
    with pytest.raises(LedgerError, match=r"000000001\.json: entry 1: it was changed"):
        other.ask(request(2))
    assert len(starts) == 1


ASKER = """
import sys
from pathlib import Path
from offers.retraining.journal import Request
from offers.retraining.retrainer import Retrainer
from tests.support.ledgers import journal_at

print("ready", flush=True)
for line in sys.stdin:
    contract, identity = line.split()
    starts = []
    retrainer = Retrainer(journal_at(Path(sys.argv[1]), contract), lambda *started: starts.append(started))
    retrainer.ask(Request(id=identity, contract=contract, cause="alarm"))
    print(len(starts), flush=True)
"""


@pytest.mark.parametrize("identities", [("r1", "r1"), ("r1", "r2")], ids=["the same alarm", "two alarms"])
def test_two_processes_that_are_asked_at_once_start_one_run(tmp_path: Path, identities: tuple[str, str]) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(asker(tmp_path)) for _ in identities]
        lines = [answered(process) for process in processes]
        assert lines == ["ready", "ready"]
        for number in range(30):
            for process, identity in zip(processes, identities, strict=True):
                assert process.stdin is not None
                process.stdin.write(f"shop{number} {identity}\n")
                process.stdin.flush()
            assert sorted(map(answered, processes)) == ["0", "1"]


def asker(directory: Path) -> subprocess.Popen[str]:
    """A process that asks for a run of each contract that it reads, and writes how many it started."""
    command = [sys.executable, "-c", ASKER, str(directory)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answered(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_has_ended_is_settled_before_an_alarm_is_judged(journal: Journal, starts: Starts, clock: Clock) -> None:
    ended: list[str] = []

    def settle() -> None:
        for run in ended:
            journal.ended(run, succeeded=False, note="the disk is full")
        ended.clear()

    told: list[Decision] = []
    retrainer = Retrainer(journal, starts, Limits(back_off=timedelta()), settle, told.append)
    first = retrainer.ask(request(1))
    assert "under way" in retrainer.ask(request(2)).reason
    ended.append(first.run)
    third = retrainer.ask(request(3))
    assert third.started
    assert retrainer.ask(request(3)) == third
    assert [decision.request.id for decision in told] == [request(number).id for number in (1, 2, 3)]


def test_a_run_that_was_lost_is_begun_again_twice_with_a_pause(
    journal: Journal, retrainer: Retrainer, starts: Starts, clock: Clock
) -> None:
    assert again(journal.entries(), clock()) is None
    runs = [retrainer.ask(request(evidence={"bundle": "shop-1", "reasons": ["age"]})).run]
    for pause in (60, 120):
        assert again(journal.entries(), clock()) is None
        journal.ended(runs[-1], succeeded=False, note="Kubeflow's own task root-driver failed", lost=True)
        clock.moment += timedelta(seconds=pause - 1)
        assert again(journal.entries(), clock()) is None
        clock.moment += timedelta(seconds=1)
        asked = again(journal.entries(), clock())
        assert asked is not None
        assert asked.evidence["bundle"] == "shop-1"
        decision = retrainer.ask(asked)
        assert decision.started
        assert decision.request.cause == "alarm"
        assert f"{runs[-1]} was lost (Kubeflow's own task root-driver failed), and is begun again" in decision.reason
        runs.append(decision.run)
    journal.ended(runs[-1], succeeded=False, lost=True)
    clock.moment += timedelta(days=1)
    assert again(journal.entries(), clock()) is None
    assert starts == runs
    assert len(set(runs)) == 3


def test_a_run_that_failed_by_itself_is_not_begun_again(journal: Journal, retrainer: Retrainer, clock: Clock) -> None:
    run = retrainer.ask(request()).run
    journal.ended(run, succeeded=False, note="ingest: there is no such file")
    clock.moment += timedelta(hours=1)
    assert again(journal.entries(), clock()) is None


def test_the_journal_reads_as_a_line_a_decision(journal: Journal, retrainer: Retrainer, clock: Clock) -> None:
    first = retrainer.ask(request(1, cause="manual"))
    journal.ended(first.run, succeeded=True, bundle="s3://bank/bundles/shop-0123456789abcdef")
    second = retrainer.ask(request(2, cause="manual"))
    journal.ended(second.run, succeeded=False, note="ingest: there is no such file")
    third = retrainer.ask(request(3, cause="manual"))
    retrainer.ask(request(4))
    moment, person = f"{NOON:%Y-%m-%d %H:%M:%S}  ", "(a person asked for it)"
    *lines, last = journal.lines()
    assert lines == [
        f"{moment}manual    {first.run}  bundle shop-0123456789abcdef  {person}",
        f"{moment}manual    {second.run}  failed: ingest: there is no such file  {person}",
        f"{moment}manual    {third.run}  under way  {person}",
    ]
    assert last.startswith(f"{moment}alarm     no run: {third.run} is under way since 0 seconds")
