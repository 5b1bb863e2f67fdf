"""A circuit breaker: while the predictor is away, requests don't wait for it, and it is asked in the background."""

import asyncio
from collections.abc import Awaitable, Callable

from serving.process.logs import log_event
from serving.process.telemetry import PREDICTOR_AWAY
from serving.protocol.kserve import ServerNotReady
from serving.ranker.predictor_client import PredictorAway

ASK_SECONDS = 0.2
_OPENING = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""Other codes are about one request; nobody else's is to suffer from it."""


class Breaker:
    """Closed while the predictor answers; open from a call that it does not answer until it answers `ask`.

    Parameters
    ----------
    ask : raises ServerNotReady while the predictor can't score
    every : seconds between two questions
    """

    def __init__(self, ask: Callable[[], Awaitable[None]], every: float = ASK_SECONDS) -> None:
        self._ask, self._every = ask, every
        self._away: PredictorAway | None = None
        self._asking: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raise `PredictorAway` while the breaker is open."""
        if self._away is not None:
            raise PredictorAway(self._away.code)

    def failed(self, away: PredictorAway) -> None:
        """Open, where the failure is one of the predictor and not of a request, and begin to ask."""
        if self._away is None and away.code in _OPENING:
            self._away = away
            PREDICTOR_AWAY.set(1)
            log_event("predictor away: asking for it in the background", code=away.code)
            self._asking = asyncio.create_task(self._until_answered())

    async def _until_answered(self) -> None:
        while True:
            try:
                await self._ask()
            except ServerNotReady:
                await asyncio.sleep(self._every)
            else:
                break
        self._away = None
        PREDICTOR_AWAY.set(0)
        log_event("predictor is back")
