"""Reads users beside the event loop. The store has a deadline; the time that a question waits for it counts apart."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from offers.data.online import OnlineUsers
from offers.data.online_reading import OnlineRows
from offers.errors import StorageError
from offers.store.online import OnlineStore
from serving.process.logs import log_event
from serving.recommender.metrics import STORE_AWAY

DEADLINE = 0.03
"""Seconds that the store has for a user."""

GRACE = 0.01
"""Seconds for which an answer of the store may wait for this process, beyond the deadline."""

PAUSE = 0.5
"""Seconds between two tries while the store does not answer."""

_THREADS = 2


class StoreAway(Exception):  # noqa: N818
    """The online store does not answer in time."""


class Overloaded(Exception):  # noqa: N818
    """More is asked than can be answered in time. The store is not to blame."""


class Users:
    """The users of an online store.

    Parameters
    ----------
    users : says what a row means
    opened : opens the store, which gives up a question after DEADLINE; each thread has one of its own
    """

    def __init__(self, users: OnlineUsers, opened: Callable[[], OnlineStore]) -> None:
        self.users, self._opened = users, opened
        self._pool = ThreadPoolExecutor(_THREADS, "online-store")
        self._local = threading.local()
        self._begun = dict[int, float]()
        self._next_try = 0.0

    async def read(self, user_id: str) -> OnlineRows:
        """Read a user's row as of now.

        Raises
        ------
        StoreAway
            the store did not answer within DEADLINE, or has not lately
        Overloaded
            the question was not put to the store within the deadline
        """
        now = time.monotonic()
        if now < self._next_try:
            raise StoreAway
        if self._next_try:
            # One request tries; the others are answered meanwhile.
            self._next_try = now + PAUSE
        call = self._pool.submit(self._read, user_id)
        answer = asyncio.wrap_future(call)
        # What it raises is looked for in the call, or comes too late to matter.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        for seconds in (DEADLINE, GRACE):
            # An answer that is there counts, however late the event loop comes to look.
            if not call.done():
                await asyncio.wait({answer}, timeout=seconds)
        if not call.done():
            answer.cancel()
            if self._hangs():
                self._went_away("it took too long")
                raise StoreAway
            raise Overloaded
        try:
            rows = call.result()
        except StorageError as error:
            self._went_away(str(error))
            raise StoreAway from None
        if self._next_try:
            log_event("online store is back")
            self._next_try = 0.0
            STORE_AWAY.set(0)
        return rows

    @property
    def away(self) -> bool:
        """Whether the store did not answer when it was last asked."""
        return bool(self._next_try)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _went_away(self, reason: str) -> None:
        if not self._next_try:
            log_event("online store away", reason=reason)
        self._next_try = time.monotonic() + PAUSE
        STORE_AWAY.set(1)

    def _hangs(self) -> bool:
        """Whether a question has been with the store for longer than the deadline."""
        return time.monotonic() - min(list(self._begun.values()), default=float("inf")) > DEADLINE

    def _read(self, user_id: str) -> OnlineRows:
        thread = threading.get_ident()
        self._begun[thread] = time.monotonic()
        try:
            store: OnlineStore | None = getattr(self._local, "store", None)
            if store is None:
                store = self._local.store = self._opened()
            return self.users.read(store, [user_id], np.datetime64(time.time_ns() // 1000, "us"))
        finally:
            del self._begun[thread]
