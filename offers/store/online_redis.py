"""The online store on Redis: a hash for each load, and a key that names the one in force."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Self
from urllib.parse import urlsplit

from offers.errors import StorageError
from offers.store.online import Change

KEY, LOADS = "{offers:online}", "{offers:online}:loads"
"""The number of the load in force, and those of all loads that are there or going on. KEY:NUMBER is a load's hash.

What stands in braces keeps all of them on one machine of a cluster, where a script may use them together.
"""

_CHUNK = 1000
"""Ids in one question, and rows in one message of a load."""

_LOAD_PATIENCE = 30.0
"""Seconds that one message of a load may take."""

_GET = """
local number = redis.call('GET', KEYS[1])
if not number then return false end
return redis.call('HMGET', KEYS[1] .. ':' .. number, unpack(ARGV))
"""

_SET = """
local load = KEYS[1] .. ':' .. ARGV[1]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for place = 2, #ARGV, 3 do
  if redis.call('HGET', load, ARGV[place]) ~= ARGV[place + 1] then return 0 end
end
for place = 2, #ARGV, 3 do redis.call('HSET', load, ARGV[place], ARGV[place + 2]) end
return 1
"""

_SWITCH = """
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then
  redis.call('UNLINK', KEYS[1] .. ':' .. ARGV[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""

_BEGIN = """
local current = redis.call('GET', KEYS[1])
for _, number in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if number ~= current then
    redis.call('UNLINK', KEYS[1] .. ':' .. number)
    redis.call('SREM', KEYS[2], number)
  end
end
if ARGV[1] then redis.call('SADD', KEYS[2], ARGV[1]) end
return 1
"""


class RedisOnlineStore:
    """An online store in a Redis of version 4 or later. An object may be used by many threads.

    Parameters
    ----------
    url : redis://HOST:PORT/NUMBER, or rediss://… for TLS, with name and password where they are needed
    patience : seconds that each call may take, apart from loads; nothing is tried again

    Raises
    ------
    StorageError
        the URL is wrong, or the library is missing
    """

    def __init__(self, url: str, patience: float) -> None:
        # A URL may hold a password, which no message may tell.
        self._where = _where(url)
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ModuleNotFoundError:
            raise StorageError(f"{self._where}: the library 'redis' is missing; install the extra 'market'") from None
        self._faults = (redis.RedisError, OSError)

        def client(seconds: float) -> Any:
            timeouts = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
            return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **timeouts)

        try:
            self._client, self._loader = client(patience), client(max(patience, _LOAD_PATIENCE))
        except ValueError as error:
            raise StorageError(f"{self._where}: expected redis://HOST:PORT/NUMBER: {error}") from None
        self._get, self._set = self._client.register_script(_GET), self._client.register_script(_SET)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()
        self._loader.close()

    def get(self, ids: Sequence[str]) -> list[bytes | None]:
        values = list[bytes | None]()
        with self._errors():
            for first in range(0, len(ids), _CHUNK):
                some = self._get(keys=[KEY], args=list(ids[first : first + _CHUNK]))
                if some is None:
                    raise self._empty()
                values += some
        return values

    def load(self, rows: Iterable[tuple[str, bytes]]) -> None:
        number, remaining = str(1 + secrets.randbelow(2**31 - 1)), iter(rows)
        with self._errors():
            # What a load has left that was killed, or that goes on and is to fail, is dropped.
            self._loader.eval(_BEGIN, 2, KEY, LOADS, number)
            while block := dict(islice(remaining, _CHUNK)):
                self._loader.hset(f"{KEY}:{number}", mapping=block)
            if not self._loader.eval(_SWITCH, 2, KEY, LOADS, number):
                raise StorageError(f"{self._where}: another load began while this one went on; the other one counts")
            self._loader.eval(_BEGIN, 2, KEY, LOADS)

    def generation(self) -> int:
        with self._errors():
            number = self._client.get(KEY)
        if number is None:
            raise self._empty()
        return int(number)

    def update(self, ids: Sequence[str], change: Change) -> None:
        while True:
            number, values = self.generation(), self.get(ids)
            changes = zip(ids, values, change(values), strict=True)
            entries = [
                item for one, old, new in changes if old is not None and new is not None for item in (one, old, new)
            ]
            with self._errors():
                if not entries or self._set(keys=[KEY], args=[number, *entries]):
                    return

    def _empty(self) -> StorageError:
        return StorageError(f"{self._where}: there is no load of users; 'offers market load' makes one")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._faults as error:
            reason = str(error) or type(error).__name__
            raise StorageError(f"{self._where}: the online store can't be used: {reason}", passes=True) from None


def _where(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise StorageError("expected redis://HOST:PORT/NUMBER, got a URL whose host or port can't be read") from None
    return f"{parts.scheme}://{parts.hostname}:{port}"
