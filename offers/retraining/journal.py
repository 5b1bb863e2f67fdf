"""The journal of retraining: every decision whether to train, and its outcome, as the ledger has them."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from offers.errors import RequestError
from offers.governance import entries as ledger_entries
from offers.governance.entries import Action, Cause, RetrainingDecided, RetrainingEnded
from offers.governance.keys import Signer
from offers.governance.ledger import Ledger
from offers.record import Record

UPDATES: tuple[Action, ...] = ("update", "recalibrate")

_LONGEST = 2000


class Request(Record):
    """A request for a new model.

    `id` is the same when the same request is sent again. `evidence` holds the reasons for it. The action "none" marks a
    request whose evidence is not sufficient: it is only recorded.
    """

    id: Annotated[str, Field(min_length=1, max_length=200)]
    contract: str
    cause: Cause
    action: Action = "retrain"
    evidence: dict[str, Any] = Field(default_factory=dict)


class Decision(Record):
    """Whether a request started a run, and why. `run` is empty if it did not."""

    kind: Literal["decision"] = "decision"
    at: datetime
    request: Request
    started: bool
    reason: str
    run: str = ""


class Outcome(Record):
    """The end of a run; `bundle` is empty where the gate refused or the run failed.

    `lost` is true if Kubeflow failed rather than the run, which may succeed when it is started again.
    """

    kind: Literal["outcome"] = "outcome"
    at: datetime
    run: str
    succeeded: bool
    bundle: str = ""
    note: str = ""
    lost: bool = False


Entry = Decision | Outcome


class Journal:
    """The entries of the ledger on the retraining of one contract.

    Parameters
    ----------
    sign : returns the key that signs new entries, a trainer's or an operator's; raises LedgerError where there is none
    """

    def __init__(self, ledger: Ledger, sign: Callable[[], Signer], contract: str) -> None:
        self.ledger = ledger
        self.contract = contract
        self._sign = sign

    @property
    def clock(self) -> Callable[[], datetime]:
        return self.ledger.clock

    def decide(self, request: Request, judge: Callable[[list[Entry]], Decision]) -> tuple[Decision, bool]:
        """Write the decision on a request, unless it was decided on before.

        If another process writes in the meantime, the decision rests on an old history and is made again.

        Parameters
        ----------
        judge : makes the decision from the entries until now

        Returns
        -------
        Decision, bool
            the decision as it stands in the ledger, and whether it is new

        Raises
        ------
        RequestError
            the evidence can't be written so that it can be read again
        LedgerError
            the ledger is damaged, or the signer may not write
        StorageError
            the store can't be reached
        """
        before = list[Decision]()

        def act(state: object) -> RetrainingDecided | None:
            history = self.entries()
            before[:] = [e for e in history if isinstance(e, Decision) and e.request.id == request.id][:1]
            return None if before else _act(judge(history))

        try:
            entry = self.ledger.write(self._sign(), act)
        except (ValueError, RecursionError) as error:
            reason = str(error).partition("\n")[0]
            raise RequestError(f"the evidence: expected one that can be read again, got another: {reason}") from None
        if entry is None:
            return before[0], False
        decision = _shown(entry)
        assert isinstance(decision, Decision)
        return decision, True

    def ended(self, run: str, succeeded: bool, bundle: str = "", note: str = "", lost: bool = False) -> None:
        """Record how a run has ended, unless somebody has; raises as `decide` does."""
        end = RetrainingEnded(
            contract=self.contract, run=run, succeeded=succeeded, bundle=bundle, note=note[:_LONGEST], lost=lost
        )
        self.ledger.write(self._sign(), lambda state: None if run in self._ended() else end)

    def entries(self) -> list[Entry]:
        """All entries, the oldest first; raises LedgerError or StorageError where the ledger can't be read."""
        shown = (_shown(entry) for entry in self.ledger.entries() if _contract(entry) == self.contract)
        return [entry for entry in shown if entry is not None]

    def running(self) -> list[str]:
        """List the runs that were started and have not ended."""
        ended = self._ended()
        started = [entry.run for entry in self.entries() if isinstance(entry, Decision) and entry.started]
        return [run for run in started if run not in ended]

    def lines(self) -> list[str]:
        """Describe every decision for people, the oldest first: moment, cause, run or reason for none, and outcome."""
        entries = self.entries()
        outcomes = {entry.run: entry for entry in entries if isinstance(entry, Outcome)}
        return [_line(entry, outcomes.get(entry.run)) for entry in entries if isinstance(entry, Decision)]

    def _ended(self) -> set[str]:
        return {entry.run for entry in self.entries() if isinstance(entry, Outcome)}


def _act(decision: Decision) -> RetrainingDecided:
    request = decision.request
    return RetrainingDecided(
        contract=request.contract,
        id=request.id,
        cause=request.cause,
        action=request.action,
        evidence=request.evidence,
        started=decision.started,
        run=decision.run,
        reason=decision.reason[:_LONGEST],
    )


def _contract(entry: ledger_entries.Entry) -> str:
    return entry.act.contract if isinstance(entry.act, RetrainingDecided | RetrainingEnded) else ""


def _shown(entry: ledger_entries.Entry) -> Entry | None:
    act = entry.act
    if isinstance(act, RetrainingDecided):
        request = Request(id=act.id, contract=act.contract, cause=act.cause, action=act.action, evidence=act.evidence)
        return Decision(at=entry.at, request=request, started=act.started, reason=act.reason, run=act.run)
    if isinstance(act, RetrainingEnded):
        return Outcome(
            at=entry.at, run=act.run, succeeded=act.succeeded, bundle=act.bundle, note=act.note, lost=act.lost
        )
    return None


def _line(decision: Decision, outcome: Outcome | None) -> str:
    start = f"{decision.at:%Y-%m-%d %H:%M:%S}  {decision.request.cause:<8}"
    if not decision.started:
        return f"{start}  no run: {decision.reason}"
    if outcome is None:
        result = "under way"
    elif outcome.bundle:
        result = f"bundle {outcome.bundle.rpartition('/')[2]}"
    else:
        result = f"{'' if outcome.succeeded else 'failed: '}{outcome.note}"
    return f"{start}  {decision.run}  {result}  ({decision.reason})"
