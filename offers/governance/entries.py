"""Entries of the ledger: who did what, when, and on which evidence. Each is signed and names the entry before it."""

import hashlib
import json
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from offers.record import Record

Role = Literal["admin", "trainer", "approver", "operator"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Text = Annotated[str, Field(max_length=2000)]
Share = Annotated[float, Field(gt=0, le=1)]
Cause = Literal["alarm", "schedule", "new data", "new image", "manual"]
Action = Literal["none", "update", "recalibrate", "retrain"]
"""What is asked for of a trigger; "recalibrate" is what version 0.1 called an update."""


class KeyAdded(Record):
    """A key may sign from now on, in the given roles. The first entry of a ledger adds the key that signs it."""

    kind: Literal["key added"] = "key added"
    key: KeyId
    public: str
    name: Annotated[str, Field(min_length=1, max_length=63)]
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]


class KeyWithdrawn(Record):
    """A key may not sign any more; entries that it signed before stay valid."""

    kind: Literal["key withdrawn"] = "key withdrawn"
    key: KeyId
    reason: Text


class GateJudged(Record):
    """The gate passed or refused a bundle; `evidence` has the digests of the files that it judged by."""

    kind: Literal["gate"] = "gate"
    contract: str
    bundle: str
    passed: bool
    evidence: dict[str, Digest]


class ApprovalTerms(Record):
    """The contract's conditions for a promotion: the number of people who must approve, 0 where the gate decides."""

    people: Annotated[int, Field(ge=0, le=9)]
    days: Annotated[int, Field(ge=1, le=3650)]


class ReleaseMade(Record):
    """A release was made of a bundle and a catalogue; it may be approved and promoted."""

    kind: Literal["release made"] = "release made"
    release: str
    contract: str
    bundle: str
    catalogue: str
    evidence: dict[str, Digest]
    terms: ApprovalTerms


class CatalogueChanged(Record):
    """A new release has another catalogue than the contract's releases before; the digests are those of the files."""

    kind: Literal["catalogue changed"] = "catalogue changed"
    contract: str
    catalogue: str
    before: Digest
    after: Digest


class Approved(Record):
    """A person has seen the evidence and approves a release; the approval lapses at `until`."""

    kind: Literal["approved"] = "approved"
    release: str
    evidence: dict[str, Digest]
    conditions: tuple[Text, ...] = ()
    until: datetime


class Rejected(Record):
    """A person refuses a release."""

    kind: Literal["rejected"] = "rejected"
    release: str
    reason: Text


class CanaryPlan(Record):
    """How a release takes over by steps: each step's share of the customers, and what it needs before the next.

    `seconds` is the shortest time of a step. `customers` and `outcomes` are the fewest customers, of the challenger and
    of the champion each, who were answered in it, and whose outcomes are known.
    """

    shares: Annotated[tuple[Share, ...], Field(min_length=1, max_length=20)]
    seconds: Annotated[float, Field(gt=0, le=90 * 86400)]
    customers: Annotated[int, Field(ge=1)]
    outcomes: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(after <= before for before, after in pairwise((*self.shares, 1.0))):
            raise ValueError(f"the steps: expected shares that rise and end below 1, got {list(self.shares)}")
        return self


class Promoting(Record):
    """A release is about to replace the champion, at once or by a canary's steps.

    `back` is true if this returns to the champion before.
    """

    kind: Literal["promoting"] = "promoting"
    release: str
    back: bool = False
    reason: Text = ""
    canary: CanaryPlan | None = None


class CanaryStepped(Record):
    """The release that is being promoted answers a share of the customers from now on; `evidence` says why it may."""

    kind: Literal["canary step"] = "canary step"
    release: str
    share: Share
    evidence: Text


class Promoted(Record):
    """The release that was being promoted serves now."""

    kind: Literal["promoted"] = "promoted"
    release: str


class RolledBack(Record):
    """The former champion serves again; the release that served in between is withdrawn."""

    kind: Literal["rolled back"] = "rolled back"
    release: str
    withdrawn: str


class Returned(Record):
    """The release that was being promoted does not serve; the champion stays."""

    kind: Literal["returned"] = "returned"
    release: str
    reason: Text


class DataRead(Record):
    """A pipeline has read rows for a training; `fingerprint` is the SHA-256 of the rows it trained on."""

    kind: Literal["data read"] = "data read"
    contract: str
    bundle: str
    origin: Text
    rows: Annotated[int, Field(ge=0)]
    fingerprint: Digest


class RetrainingDecided(Record):
    """A request for a new model was decided on; `run` is empty if that started none.

    `id` is the request's, the same when it is sent again, and `evidence` holds its reasons.
    """

    kind: Literal["retraining decided"] = "retraining decided"
    contract: str
    id: Annotated[str, Field(min_length=1, max_length=200)]
    cause: Cause
    action: Action
    evidence: dict[str, Any]
    started: bool
    run: str
    reason: Text


class RetrainingEnded(Record):
    """A retraining run has ended; `bundle` names the place of the bundle, and is empty where it made none.

    `lost` is true if Kubeflow failed rather than the run.
    """

    kind: Literal["retraining ended"] = "retraining ended"
    contract: str
    run: str
    succeeded: bool
    bundle: str
    note: Text
    lost: bool = False


class CustomerErased(Record):
    """The decision log's data about a customer was deleted; the entry does not say whose."""

    kind: Literal["customer erased"] = "customer erased"
    decisions: Annotated[int, Field(ge=1)]
    log: Text
    reason: Text


Act = (
    KeyAdded
    | KeyWithdrawn
    | GateJudged
    | ReleaseMade
    | CatalogueChanged
    | Approved
    | Rejected
    | Promoting
    | CanaryStepped
    | Promoted
    | RolledBack
    | Returned
    | DataRead
    | RetrainingDecided
    | RetrainingEnded
    | CustomerErased
)

WHO: dict[str, tuple[Role, ...]] = {
    "key added": ("admin",),
    "key withdrawn": ("admin",),
    "gate": ("trainer",),
    "release made": ("trainer", "operator"),
    "catalogue changed": ("trainer", "operator"),
    "approved": ("approver",),
    "rejected": ("approver",),
    "promoting": ("operator",),
    "canary step": ("operator",),
    "promoted": ("operator",),
    "rolled back": ("operator",),
    "returned": ("operator",),
    "data read": ("trainer",),
    "retraining decided": ("trainer", "operator"),
    "retraining ended": ("trainer", "operator"),
    "customer erased": ("operator",),
}
"""The roles of which each kind of entry asks for one."""


class Entry(Record):
    """An entry as it is stored; `before` is the SHA-256 of the entry before it, zeros for the first entry.

    `account` is the account that wrote it on a cluster, in the cluster's own words; it is empty elsewhere.
    """

    number: Annotated[int, Field(ge=0)]
    at: datetime
    actor: KeyId
    account: Annotated[str, Field(max_length=500)] = ""
    act: Annotated[Act, Field(discriminator="kind")]
    before: Digest
    signature: str


class Head(Record):
    """The end of a ledger: number and SHA-256 of its last entry. A head kept elsewhere reveals a truncated ledger."""

    number: int
    digest: Digest

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"


FIRST = "0" * 64


def canonical(content: dict[str, Any]) -> bytes:
    """Write a record in its canonical form: sorted keys, no spaces, UTF-8, one line."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def digest_of(content: bytes) -> str:
    """Compute the SHA-256 of the bytes of an entry."""
    return hashlib.sha256(content).hexdigest()
