"""People with keys, a ledger that knows them, and releases in it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from offers.governance.entries import (
    Act,
    ApprovalTerms,
    Approved,
    Entry,
    GateJudged,
    KeyAdded,
    Promoted,
    Promoting,
    ReleaseMade,
    Role,
)
from offers.governance.keys import Signer
from offers.governance.ledger import Ledger, enrol, now
from offers.retraining.journal import Journal
from offers.store.directory import DirectoryStore
from offers.store.store import Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROLES: dict[str, tuple[Role, ...]] = {
    "root": ("admin",),
    "trainer": ("trainer",),
    "ann": ("approver",),
    "bob": ("approver",),
    "olga": ("operator",),
}


class Clock:
    """Tells the time that the test sets, a second later each time it is asked."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment


def signer(name: str) -> Signer:
    """The same key for the same name, in every test."""
    return Signer(name, Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest()))


def key_added(name: str, *roles: Role) -> KeyAdded:
    public = signer(name).public
    return KeyAdded(key=public.id, public=public.text, name=name, roles=roles or ROLES[name])


def journal_at(directory: Path, contract: str, clock: Callable[[], datetime] = now) -> Journal:
    """A journal of retraining in a ledger of a directory, which begins with its trainer's key."""
    ledger = Ledger(DirectoryStore(directory), clock)
    enrol(ledger, signer("trainer"), ("admin", "trainer"))
    return Journal(ledger, lambda: signer("trainer"), contract)


@dataclass
class Bank:
    """A ledger of people who may each do one thing."""

    store: Store
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.store, self.clock)
        for name in ROLES:
            self.write("root", key_added(name))

    def write(self, name: str, act: Act) -> Entry:
        """Write an act as somebody, whatever the state."""
        entry = self.ledger.write(signer(name), lambda state: act)
        assert entry is not None
        return entry

    def made(self, number: int, people: int = 2, bundle: int | None = None) -> str:
        """A release of a bundle that passed the gate."""
        digest = sha256(str(number).encode()).hexdigest()
        release, bundle_name = f"shop-release-{number:016x}", f"shop-{number if bundle is None else bundle:016x}"
        evidence = {"gate.json": digest}
        self.write("trainer", GateJudged(contract="shop", bundle=bundle_name, passed=True, evidence=evidence))
        terms = ApprovalTerms(people=people, days=90)
        made = ReleaseMade(
            release=release, contract="shop", bundle=bundle_name, catalogue="shop-1", evidence=evidence, terms=terms
        )
        self.write("trainer", made)
        return release

    def approve(self, release: str, *names: str, days: float = 90) -> None:
        for name in names or ("ann", "bob"):
            until = self.clock.moment + timedelta(days=days)
            self.write(name, Approved(release=release, evidence={}, until=until))

    def promote(self, release: str) -> None:
        self.write("olga", Promoting(release=release))
        self.write("olga", Promoted(release=release))

    def champion(self, number: int) -> str:
        """A release that was made, approved and promoted."""
        release = self.made(number)
        self.approve(release)
        self.promote(release)
        return release
