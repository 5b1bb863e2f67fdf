"""How long the bodies of requests may take to arrive."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request

BODY_SECONDS = 10.0
_LAST_SECONDS = 1.0


class Arrivals:
    """Reads bodies, and gives up those that stall: else a caller who sends half of one holds up the service's end.

    Parameters
    ----------
    seconds : for a whole body to arrive
    """

    def __init__(self, seconds: float = BODY_SECONDS) -> None:
        self.seconds = seconds
        self._awaited: set[asyncio.Timeout] = set()

    async def body(self, request: Request) -> bytes:
        """Read a body; raises HTTPException, status 408, where it does not arrive in time."""
        deadline = asyncio.timeout(self.seconds)
        self._awaited.add(deadline)
        try:
            async with deadline:
                return await request.body()
        except TimeoutError:
            sentence = f"the body: expected all of it within {self.seconds:g} s, but it stopped short: send it again"
            raise HTTPException(408, sentence, {"connection": "close"}) from None
        finally:
            self._awaited.remove(deadline)

    def hurry(self) -> None:
        """Give up within a second whatever does not arrive, now and from now on."""
        self.seconds = min(self.seconds, _LAST_SECONDS)
        soon = asyncio.get_running_loop().time() + self.seconds
        for deadline in self._awaited:
            if not deadline.expired():
                deadline.reschedule(min(deadline.when() or soon, soon))
