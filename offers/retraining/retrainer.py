"""Decides when a new model is trained, on requests of alarms, of schedules, of new data or of people."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from offers.retraining.journal import Decision, Entry, Journal, Outcome, Request
from offers.wording import spoken

TRIES = 2
"""How often a run that was lost is begun again."""
PAUSE = timedelta(minutes=1)
"""Before the first of them; it doubles with each."""

Start = Callable[[Request, str], None]
"""Starts a run by its name and comes back at once; raises OffersError where it can't."""


@dataclass(frozen=True)
class Limits:
    """How often a model may be trained, and its layer updated; neither counts for the other.

    `cool_down` must pass between two trainings and `update_pause` between two updates, unless a person asks. After a
    failed run `back_off` must pass, and twice as long after each further failure, but no longer than the pause between
    two that succeed. Within 24 hours there are at most `runs_a_day` trainings, unless a person asks. A run that takes
    longer than `longest_run` is taken for dead.
    """

    cool_down: timedelta = timedelta(days=1)
    longest_run: timedelta = timedelta(hours=6)
    back_off: timedelta = timedelta(minutes=30)
    runs_a_day: int = 4
    update_pause: timedelta = timedelta(minutes=10)


class Retrainer:
    """Takes requests for a new model. Where many processes take requests, they are decided on one at a time.

    Parameters
    ----------
    journal : records decisions, and tells repeated requests from new ones
    start : called to start the run of a decision
    settle : called before each decision, to write the ends of runs into the journal
    told : called with every new decision
    """

    def __init__(
        self,
        journal: Journal,
        start: Start,
        limits: Limits = Limits(),
        settle: Callable[[], None] = lambda: None,
        told: Callable[[Decision], None] = lambda decision: None,
    ) -> None:
        self.journal = journal
        self.limits = limits
        self._start, self._settle, self._told = start, settle, told

    def ask(self, request: Request) -> Decision:
        """Decide on a request, record the decision, and start a run if the decision says so.

        A request that was decided on before gets the same decision again, and starts nothing.

        Raises
        ------
        LedgerError, StorageError
            the ledger can't be read or written; then nothing was started
        ServiceError
            the platform of the runs does not answer; then nothing was decided
        """
        self._settle()
        decision, new = self.journal.decide(
            request, lambda history: decide(request, history, self.limits, self.journal.clock())
        )
        if not new:
            return decision
        self._told(decision)
        if decision.started:
            self._begin(decision)
        return decision

    def _begin(self, decision: Decision) -> None:
        try:
            self._start(decision.request, decision.run)
        except Exception as error:
            self.journal.ended(decision.run, succeeded=False, note=f"it could not be started: {error}")
            raise


def decide(request: Request, history: Sequence[Entry], limits: Limits, moment: datetime) -> Decision:
    """Decide on a new request by the history of requests and runs.

    Parameters
    ----------
    history : entries of the journal, the oldest first
    moment : now, with its time zone
    """

    def decided(reason: str, run: str = "") -> Decision:
        return Decision(at=moment, request=request, started=bool(run), reason=reason, run=run)

    if request.action == "none":
        return decided("one signal of three is not enough; outcomes tell more: run the monitoring pipeline")
    started = [entry for entry in history if isinstance(entry, Decision) and entry.started]
    outcomes = {entry.run: entry for entry in history if isinstance(entry, Outcome)}
    if started:
        last = started[-1]
        since = moment - last.at
        if last.run not in outcomes and since < limits.longest_run:
            return decided(f"{last.run} is under way since {spoken(since)}: one run at a time")
    alike = [entry for entry in started if _trains(entry.request) == _trains(request)]
    if alike and request.cause != "manual" and not _repeats(request):
        last, since = alike[-1], moment - alike[-1].at
        wait = limits.cool_down if _trains(request) else limits.update_pause
        pause, kind = _pause([outcomes.get(entry.run) for entry in alike], wait, limits.back_off)
        if since < pause:
            return decided(f"{last.run} began {spoken(since)} ago: the {kind} lasts another {spoken(pause - since)}")
        today = sum(moment - entry.at < timedelta(days=1) for entry in alike)
        if _trains(request) and today >= limits.runs_a_day:
            return decided(f"{today} runs began within 24 hours: no more than {limits.runs_a_day} may")
    return decided(_because(request), run_name(request))


def scheduled(
    contract: str, history: Sequence[Entry], every: timedelta, since: datetime, moment: datetime
) -> Request | None:
    """Ask for a new model if no training began for a while; asks at most once a day.

    Parameters
    ----------
    every : longest time between two trainings
    since : moment from which to count if no training ever began
    """
    started = (entry for entry in history if isinstance(entry, Decision) and entry.started)
    last = max((entry.at for entry in started if _trains(entry.request)), default=since)
    if moment - last < every:
        return None
    evidence = {"reasons": [f"the last run began {spoken(moment - last)} ago, one is due every {spoken(every)}"]}
    return Request(id=f"schedule-{moment:%Y-%m-%d}", contract=contract, cause="schedule", evidence=evidence)


def grown(contract: str, rows: int, trained_on: int, at_least: int, moment: datetime) -> Request | None:
    """Ask for a new model if the source has grown by enough rows; asks at most once a day for the same rows."""
    if rows - trained_on < at_least:
        return None
    evidence = {"reasons": [f"{rows} rows, {trained_on} when the present model was trained"]}
    return Request(id=f"new-data-{rows}-{moment:%Y-%m-%d}", contract=contract, cause="new data", evidence=evidence)


def learnable(contract: str, bundle: str, rows: int, learnt: int, at_least: int) -> Request | None:
    """Ask for an update of a bundle if enough labels are new; asks once for the same rows.

    Parameters
    ----------
    rows : rows of the source
    learnt : rows that the newest model has learnt
    """
    if rows - learnt < at_least:
        return None
    evidence = {"bundle": bundle, "reasons": [f"{rows - learnt} labels that no layer has learnt"]}
    return Request(
        id=f"labels-{bundle}-{rows}", contract=contract, cause="new data", action="update", evidence=evidence
    )


def again(history: Sequence[Entry], moment: datetime) -> Request | None:
    """Ask for the newest run again if it was lost; at most twice, after one minute and after two more."""
    started = [entry for entry in history if isinstance(entry, Decision) and entry.started]
    if not started:
        return None
    last = started[-1]
    outcome = next((entry for entry in history if isinstance(entry, Outcome) and entry.run == last.run), None)
    before = re.match(r"again-(\d)-", last.request.id)
    number = int(before[1]) if before else 0
    if outcome is None or not outcome.lost or number >= TRIES or moment < outcome.at + PAUSE * 2**number:
        return None
    reasons = [f"{last.run} was lost ({outcome.note}), and is begun again, {number + 1} of {TRIES}"]
    return last.request.model_copy(
        update={
            "id": f"again-{number + 1}-{last.run}"[:200],
            "evidence": last.request.evidence | {"reasons": reasons},
        }
    )


def run_name(request: Request) -> str:
    """Name the run of a request; the same request has the same name, so that no platform runs it twice."""
    digest = hashlib.sha256(f"{request.contract}\n{request.id}".encode()).hexdigest()
    return f"{request.action}-{request.contract}-{digest[:12]}"


def _trains(request: Request) -> bool:
    return request.action == "retrain"


def _pause(outcomes: Sequence[Outcome | None], wait: timedelta, back_off: timedelta) -> tuple[timedelta, str]:
    """Find how long to wait after the last run began, and the name of the pause.

    A failed run changed nothing, and may fail again, so the pauses grow. A lost run did not fail by itself.
    """
    broken = list(takewhile(lambda outcome: outcome is not None and not outcome.succeeded, reversed(outcomes)))
    if not broken:
        return wait, "cool-down"
    failures = sum(outcome is not None and not outcome.lost for outcome in broken)
    pause = back_off * 2 ** min(failures - 1, 20) if failures else timedelta()
    return min(wait, pause), f"pause after {failures} failed"


def _repeats(request: Request) -> bool:
    """Whether a request comes from `again`, which has its own pauses. The id of an event has a '#', so none matches."""
    return re.fullmatch(r"again-\d-[^#]+", request.id) is not None


def _because(request: Request) -> str:
    why = {
        "alarm": "drift was seen",
        "schedule": "its time has come",
        "new data": "there are enough new rows",
        "new image": "an image was published, and a model that it trains is compared with the present one",
        "manual": "a person asked for it",
    }
    reasons = request.evidence.get("reasons")
    words = f": {'; '.join(map(str, reasons))}" if isinstance(reasons, list | tuple) and reasons else ""
    return why[request.cause] + words
