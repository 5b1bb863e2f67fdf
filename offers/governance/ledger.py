"""The ledger in an object store: objects such as `ledger/000000042.json`, each created once by a single writer."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain
from threading import RLock

from offers.errors import LedgerError
from offers.governance import rules
from offers.governance.chain import Chain, Problem, signed
from offers.governance.entries import FIRST, Act, Entry, Head, KeyAdded, Role, digest_of
from offers.governance.keys import Signer
from offers.governance.state import State
from offers.store.store import Store

SKEW = timedelta(minutes=1)
"""How far the clocks of two machines may be apart."""

_PREFIX = "ledger/"
_KEY = re.compile(r"ledger/(\d{9})\.json")
_READERS = 16


def now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """Reads and writes entries. Entries are cached, so that only new ones are read from the store.

    Raises
    ------
    LedgerError
        an entry is not valid, or the rules refuse a new one
    StorageError
        the store can't be reached
    """

    def __init__(self, store: Store, clock: Callable[[], datetime] = now) -> None:
        self.store = store
        self.clock = clock
        self._chain = Chain()
        self._lock = RLock()

    @property
    def head(self) -> Head | None:
        """The end of the ledger, or None where it is empty."""
        with self._lock:
            return self._read().head

    def entries(self) -> list[Entry]:
        """All entries, the oldest first."""
        with self._lock:
            return list(self._read().entries)

    def state(self) -> State:
        """The state that results from the entries."""
        with self._lock:
            return self._read().state.copy()

    def write(self, signer: Signer, decide: Callable[[State], Act | None]) -> Entry | None:
        """Decide on the ledger's state, and write the decision as the next entry.

        If another writer was faster, the decision rests on an old state; then `decide` is called again.

        Returns
        -------
        Entry or None
            the written entry; None where `decide` returned None
        """
        with self._lock:
            while True:
                present = self._read()
                act, head = decide(present.state), present.head
                if act is None:
                    return None
                number = head.number + 1 if head else 0
                content = signed(number, head.digest if head else FIRST, act, signer, self._moment(present.state))
                entry = Entry.model_validate_json(content)
                rules.check(present.state, entry)
                if self.store.create(key_of(number), content):
                    return entry

    def _moment(self, state: State) -> str:
        moment, last = self.clock(), state.last
        if last is not None and moment < last.at:
            if last.at - moment > SKEW:
                raise LedgerError(
                    f"this machine's clock says {moment:%Y-%m-%d %H:%M:%S}, but entry {last.number} was written at"
                    f" {last.at:%Y-%m-%d %H:%M:%S}: set the clock"
                )
            moment = last.at
        return moment.isoformat()

    def _read(self) -> Chain:
        for number, content in stored(self.store, len(self._chain.entries)):
            problem = self._chain.take(number, content) if content is not None else Problem(number, "it is missing")
            if problem is not None:
                self._chain = Chain()
                raise LedgerError(f"{self.store.uri}/{key_of(number)}: {problem}; 'offers audit verify' tells more")
        return self._chain


def enrol(ledger: Ledger, signer: Signer, roles: tuple[Role, ...]) -> None:
    """Begin an empty ledger with the key of its first admin; a ledger with entries stays as it is."""
    public = signer.public

    def decide(state: State) -> Act | None:
        return None if state.keys else KeyAdded(key=public.id, public=public.text, name=signer.name, roles=roles)

    ledger.write(signer, decide)


def key_of(number: int) -> str:
    """Name the object of an entry."""
    return f"{_PREFIX}{number:09}.json"


def stored_head(store: Store) -> Head | None:
    """Read the end of a ledger as it is stored, without verifying anything; None where there is no ledger."""
    keys = [key for key in store.keys(_PREFIX) if _KEY.fullmatch(key)]
    if not keys:
        return None
    last = max(keys)
    return Head(number=int(last[len(_PREFIX) :].removesuffix(".json")), digest=digest_of(store.read_bytes(last)))


def stored(store: Store, start: int = 0) -> list[tuple[int, bytes | None]]:
    """Read numbers and bytes of the entries from `start` on; None for an entry that is missing before the last."""
    numbers = {int(match[1]) for key in store.keys(_PREFIX) if (match := _KEY.fullmatch(key))}
    pending = range(start, max(numbers, default=-1) + 1)

    def read(part: range) -> list[tuple[int, bytes | None]]:
        return [(number, store.read_bytes(key_of(number)) if number in numbers else None) for number in part]

    if len(pending) < _READERS:
        return read(pending)
    with ThreadPoolExecutor(_READERS) as pool:
        return sorted(chain.from_iterable(pool.map(read, (pending[place::_READERS] for place in range(_READERS)))))
