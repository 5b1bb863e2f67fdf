"""Reads users beside the event loop, within a deadline, and leaves a store alone that does not answer."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from offers.data.online import OnlineRows, OnlineUsers
from offers.errors import StorageError
from offers.store.online import OnlineStore
from serving.process.logs import log_event
from serving.recommender.metrics import STORE_AWAY

DEADLINE = 0.03
"""Seconds that the store has for a user."""

PAUSE = 0.5
"""Seconds between two tries while it does not answer."""

_THREADS = 2


class StoreAway(Exception):  # noqa: N818
    """The online store does not answer in time."""


class Users:
    """The users of an online store.

    Parameters
    ----------
    users : says what a row means
    opened : opens the store; each thread has one of its own
    """

    def __init__(self, users: OnlineUsers, opened: Callable[[], OnlineStore]) -> None:
        self.users, self._opened = users, opened
        self._pool = ThreadPoolExecutor(_THREADS, "online-store")
        self._local = threading.local()
        self._next_try = 0.0

    async def read(self, user_id: str) -> OnlineRows:
        """Read a user's row as of now.

        Raises
        ------
        StoreAway
            the store did not answer within DEADLINE, or has not lately
        """
        now = time.monotonic()
        if now < self._next_try:
            raise StoreAway
        if self._next_try:
            # One request tries; the others are answered meanwhile.
            self._next_try = now + PAUSE
        try:
            async with asyncio.timeout(DEADLINE):
                rows = await asyncio.get_running_loop().run_in_executor(self._pool, self._read, user_id)
        except (TimeoutError, StorageError) as error:
            if not self._next_try:
                log_event("online store away", reason=str(error) or "it took too long")
            self._next_try = time.monotonic() + PAUSE
            STORE_AWAY.set(1)
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

    def _read(self, user_id: str) -> OnlineRows:
        store: OnlineStore | None = getattr(self._local, "store", None)
        if store is None:
            store = self._local.store = self._opened()
        return self.users.read(store, [user_id], np.datetime64(time.time_ns() // 1000, "us"))
