"""The journal of retraining: every decision whether to train, and its outcome, as JSON lines that never change."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from offers.errors import RequestError, StorageError
from offers.record import Record
from offers.store.store import Store

Cause = Literal["alarm", "schedule", "new data", "new image", "manual"]
Action = Literal["none", "update", "recalibrate", "retrain"]
"""What is asked for; "recalibrate" is what version 0.1 called an update."""
UPDATES: tuple[Action, ...] = ("update", "recalibrate")

_PREFIX = "journal"
_NUMBERED = re.compile(r"/\d{9}\.json$")


def now() -> datetime:
    return datetime.now(UTC)


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


class Unreadable(Record):
    """Stands for an entry that somebody has altered. Its object stays where it is, and all other entries count."""

    kind: Literal["unreadable"] = "unreadable"
    key: str
    reason: str


Entry = Decision | Outcome | Unreadable
_ENTRY: TypeAdapter[Decision | Outcome] = TypeAdapter(Annotated[Decision | Outcome, Field(discriminator="kind")])


class Journal:
    """The entries of one contract in the object store, each a numbered object that is created once and never changed.

    Parameters
    ----------
    told : called once for each entry that can't be read
    """

    def __init__(
        self,
        store: Store,
        contract: str,
        clock: Callable[[], datetime] = now,
        told: Callable[[Unreadable], None] = lambda entry: None,
    ) -> None:
        self.store = store
        self.contract = contract
        self.clock = clock
        self.told = told
        self.unreadable: set[str] = set()

    def append(self, entry: Decision | Outcome) -> None:
        """Write an entry after all others.

        Raises
        ------
        StorageError
            the store can't be reached, or is full
        """
        number = len(self._keys())
        while not self.create(entry, number):
            number += 1

    def create(self, entry: Decision | Outcome, number: int) -> bool:
        """Write an entry under a number, counted from 0; False where another writer has taken the number.

        Raises
        ------
        RequestError
            the entry could not be read back
        """
        try:
            content = json.dumps(entry.model_dump(mode="json"), sort_keys=True).encode() + b"\n"
            _ENTRY.validate_json(content)
        except (ValueError, RecursionError) as error:
            reason = str(error).partition("\n")[0]
            raise RequestError(f"the evidence: expected one that can be read again, got another: {reason}") from None
        return self.store.create(self._key(number), content)

    def ended(self, run: str, succeeded: bool, bundle: str = "", note: str = "", lost: bool = False) -> None:
        """Record how a run has ended."""
        self.append(Outcome(at=self.clock(), run=run, succeeded=succeeded, bundle=bundle, note=note, lost=lost))

    def entries(self) -> list[Entry]:
        """All entries, the oldest first.

        Raises
        ------
        StorageError
            the store can't be reached, or somebody has removed an entry
        """
        entries = [self._read(key) for key in self._keys()]
        unreadable = [entry for entry in entries if isinstance(entry, Unreadable)]
        for entry in unreadable:
            if entry.key not in self.unreadable:
                self.told(entry)
        self.unreadable = {entry.key for entry in unreadable}
        return entries

    def running(self) -> list[str]:
        """List the runs that were started and have not ended."""
        entries = self.entries()
        outcomes = {entry.run for entry in entries if isinstance(entry, Outcome)}
        started = [entry.run for entry in entries if isinstance(entry, Decision) and entry.started]
        return [run for run in started if run not in outcomes]

    def lines(self) -> list[str]:
        """Describe every decision for people, the oldest first: moment, cause, run or reason for none, and outcome."""
        entries = self.entries()
        outcomes = {entry.run: entry for entry in entries if isinstance(entry, Outcome)}
        return [
            entry.reason if isinstance(entry, Unreadable) else _line(entry, outcomes.get(entry.run))
            for entry in entries
            if not isinstance(entry, Outcome)
        ]

    @property
    def _prefix(self) -> str:
        return f"{_PREFIX}/{self.contract}/"

    def _keys(self) -> list[str]:
        keys = [key for key in self.store.keys(self._prefix) if _NUMBERED.search(key)]
        if keys and keys[-1] != (last := self._key(len(keys) - 1)):
            raise StorageError(
                f"{self.store.uri}/{self._prefix}: expected {len(keys)} entries up to {last}, but the last is"
                f" {keys[-1]}; restore what is missing from a backup"
            )
        return keys

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:09}.json"

    def _read(self, key: str) -> Entry:
        try:
            return _ENTRY.validate_json(self.store.read_bytes(key))
        except ValidationError as error:
            detail = error.errors()[0]
            reason = (
                f"{self.store.uri}/{key}: expected an entry of the journal,"
                f" but {'.'.join(map(str, detail['loc'])) or 'it'}: {detail['msg']}; restore it from a backup"
            )
            return Unreadable(key=key, reason=reason)


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
