"""What the sidecar knows of its watch besides the rows: counts, streaks, reports and alarms."""

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from serving.drift.alarms import Alarm

FORMAT = 1
KEPT_WINDOWS = 100
KEPT_EVENTS = 1000
KEPT_ALARMS = 100
KEPT_SENDERS = 1000
_LARGEST = 2**63


@dataclass
class WatchRecord:
    """One watch over one bundle. Times are seconds since 1970.

    Attributes
    ----------
    events : by what became of them
    dropped : rows that were not watched, by who left them out; `sender` is the most that each sender has told of it
    latest : the last window's whole report; `history` has a line of each of the last windows
    seen : keys of the last events
    told : signals already alarmed in this episode; a window without alarm ends it
    last_alarm : number of the window that raised the latest alarm
    raised, lost_alarms : all alarms, and those that no sink had taken when there were too many
    faults : windows that could not be judged
    selection : which rows of the reference the catalogue's rules let pass, as the latest event says
    """

    bundle: str
    streak: dict[str, Any]
    since: float = field(default_factory=time.time)
    windows: int = 0
    rows: int = 0
    last_event: float | None = None
    last_window: float | None = None
    events: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=lambda: {"sidecar": 0, "sender": 0})
    sender: dict[str, int] = field(default_factory=dict)
    latest: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    raised: int = 0
    told: list[str] = field(default_factory=list)
    last_alarm: int = 0
    lost_alarms: int = 0
    sink_failures: int = 0
    faults: int = 0
    selection: str = ""

    def count(self, outcome: str) -> None:
        """Count an event by what became of it."""
        self.events[outcome] = self.events.get(outcome, 0) + 1

    def sender_dropped(self, source: str, so_far: int) -> None:
        """Count what a sender has dropped. It tells how much so far; events may come in another order than sent."""
        before = self.sender.pop(source, 0)
        self.dropped["sender"] += max(0, so_far - before)
        self.sender = dict([*self.sender.items(), (source, max(before, so_far))][-KEPT_SENDERS:])

    def remember(self, key: str) -> None:
        """Know an event again when it is sent twice."""
        self.seen = [*self.seen[-KEPT_EVENTS + 1 :], key]

    def add_alarm(self, alarm: Alarm) -> None:
        """Keep an alarm, at the cost of the oldest where there are too many."""
        self.raised += 1
        self.last_alarm = self.windows
        self.lost_alarms += sum(old.delivered is None for old in self.alarms[: -KEPT_ALARMS + 1])
        self.alarms = [*self.alarms[-KEPT_ALARMS + 1 :], alarm]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> "WatchRecord":
        """Read what `to_json` wrote; raises ValueError or TypeError on anything else."""
        content = json.loads(text)
        if content.pop("format", None) != FORMAT:
            raise ValueError("another version of the sidecar wrote it")
        alarms = [Alarm(**alarm) for alarm in content.pop("alarms")]
        ledger = cls(**content, alarms=alarms)
        if any(not 0 <= count < _LARGEST for count in [*ledger.dropped.values(), *ledger.sender.values()]):
            raise ValueError("it counts more dropped rows than 64 bits hold")
        return ledger
