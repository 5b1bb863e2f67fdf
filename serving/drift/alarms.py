"""Alarms, from the window that raised one until the sink has taken it."""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent

from offers.http_client import Peer
from offers.retraining.signature import HEADER, sign
from serving.process.logs import log_event

TYPE, SOURCE = "offers.drift.alarm", "/offers/drift"
LONGEST_PAUSE = 300.0
"""Seconds between tries when a sink has been away for long."""


@dataclass
class Alarm:
    """One alarm; `window` is the report of the window that raised it, let go when the sink has taken the alarm."""

    bundle: str
    signals: dict[str, bool]
    reasons: list[str]
    windows: int
    window: dict[str, Any] | None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    time: float = field(default_factory=time.time)
    delivered: float | None = None
    tries: int = 0
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What a reader of the history wants to know: all but the window's whole report."""
        content = asdict(self)
        del content["window"]
        return content

    def event(self) -> CloudEvent:
        """The alarm as a CloudEvent, the same on every try."""
        return CloudEvent(
            {
                "type": TYPE,
                "source": SOURCE,
                "id": self.id,
                "subject": self.bundle,
                "time": datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds"),
            },
            {
                "bundle": self.bundle,
                "signals": self.signals,
                "reasons": self.reasons,
                "window": self.window,
                "windows": self.windows,
            },
        )


class Sink:
    """Delivers alarms, oldest first, for as long as it takes; signs them where there is a key."""

    def __init__(self, peer: Peer, first_pause: float = 1.0, key: bytes = b"") -> None:
        self.peer, self.first_pause, self.key = peer, first_pause, key
        self._client = peer.client()

    @property
    def url(self) -> str:
        return str(self.peer.url)

    async def deliver(self, alarms: Callable[[], list[Alarm]], note: Callable[[Alarm], Awaitable[None]]) -> None:
        """Try every alarm that waits, pause longer after each failure, and return when none waits.

        The pause is drawn from [0, 2^failures * first_pause] and at most five minutes, so that many sidecars don't
        come back to a sink in step.
        """
        failures = 0
        while waiting := alarms():
            failures = 0 if await self._round(waiting, note) else failures + 1
            if failures:
                longest = min(LONGEST_PAUSE, self.first_pause * 2.0 ** min(failures, 30))
                await asyncio.sleep(random.uniform(0, longest))

    async def close(self) -> None:
        await self._client.aclose()

    async def _round(self, waiting: list[Alarm], note: Callable[[Alarm], Awaitable[None]]) -> bool:
        """Try each once, but none after the sink was found to be away; say whether all were taken."""
        success = True
        for alarm in waiting:
            alarm.tries += 1
            alarm.failure, away = await self._post(alarm)
            success &= not alarm.failure
            if not alarm.failure:
                alarm.delivered, alarm.window = time.time(), None
            log_event(
                "alarm not delivered" if alarm.failure else "alarm delivered",
                logging.WARNING if alarm.failure else logging.INFO,
                id=alarm.id, tries=alarm.tries, failure=alarm.failure,
            )  # fmt: skip
            await note(alarm)
            if away:
                break
        return success

    async def _post(self, alarm: Alarm) -> tuple[str, bool]:
        """Why the sink did not take the alarm, empty where it did, and whether it would take no other either."""
        headers, body = to_structured(alarm.event())
        if self.key:
            headers[HEADER] = sign(self.key, body)
        try:
            answer = await self.peer.post(self._client, body, headers)
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}".rstrip(": "), True
        if answer.is_success:
            return "", False
        return f"it answered {answer.status_code}", answer.status_code >= 500 or answer.status_code in (408, 429)
