"""A large ledger as a bank might have it after years: candidates, approvals, promotions, retrainings."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from offers.governance.chain import signed
from offers.governance.entries import (
    FIRST,
    Act,
    ApprovalTerms,
    Approved,
    DataRead,
    GateJudged,
    KeyAdded,
    Promoted,
    Promoting,
    ReleaseMade,
    RetrainingDecided,
    RetrainingEnded,
    Role,
    digest_of,
)
from offers.governance.keys import Signer
from offers.governance.ledger import key_of
from offers.store.store import Store

ENTRIES = 10_000
_BEGUN = datetime(2024, 1, 1, tzinfo=UTC)
_ROLES: dict[str, tuple[Role, ...]] = {
    "me": ("admin", "trainer", "operator"),
    "ann": ("approver",),
    "bob": ("approver",),
}


def written(store: Store) -> None:
    """Write `ENTRIES` entries, or a few more, into an empty store."""
    signers = {name: Signer(name, Ed25519PrivateKey.generate()) for name in _ROLES}
    before, contents = FIRST, list[bytes]()
    for number, (name, act) in enumerate(_acts(signers)):
        at = (_BEGUN + timedelta(hours=number)).isoformat()
        contents.append(signed(number, before, act, signers[name], at))
        before = digest_of(contents[-1])
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(store.write_bytes, map(key_of, range(len(contents))), contents))


def _acts(signers: dict[str, Signer]) -> Iterator[tuple[str, Act]]:
    for name, roles in _ROLES.items():
        public = signers[name].public
        yield "me", KeyAdded(key=public.id, public=public.text, name=name, roles=roles)
    done = len(_ROLES)
    for cycle in range(ENTRIES):
        if done >= ENTRIES:
            return
        for name, act in _cycle(cycle, _BEGUN + timedelta(hours=done)):
            yield name, act
            done += 1


def _cycle(number: int, moment: datetime) -> Iterator[tuple[str, Act]]:
    """From an alarm to a champion."""
    digest = sha256(str(number).encode()).hexdigest()
    bundle, release, run = f"shop-{digest[:16]}", f"shop-release-{digest[:16]}", f"retrain-{number}"
    evidence = dict.fromkeys(("gate.json", "metrics.json", "model-card.md"), digest)
    reasons = {"reasons": ["age: KS distance 0.31 in 3 windows", "score: PSI 0.27"]}
    yield (
        "me",
        RetrainingDecided(
            contract="shop",
            id=run,
            cause="alarm",
            action="retrain",
            evidence=reasons,
            started=True,
            run=run,
            reason="two",
        ),
    )
    yield "me", DataRead(contract="shop", bundle=bundle, origin="orders.csv", rows=40_000, fingerprint=digest)
    yield "me", GateJudged(contract="shop", bundle=bundle, passed=True, evidence=evidence)
    yield (
        "me",
        ReleaseMade(
            release=release,
            contract="shop",
            bundle=bundle,
            catalogue="shop-1",
            evidence=evidence,
            terms=ApprovalTerms(people=2, days=90),
        ),
    )
    yield "me", RetrainingEnded(contract="shop", run=run, succeeded=True, bundle=f"s3://offers/{bundle}", note="")
    for name in ("ann", "bob"):
        yield name, Approved(release=release, evidence=evidence, until=moment + timedelta(days=30))
    yield "me", Promoting(release=release)
    yield "me", Promoted(release=release)
