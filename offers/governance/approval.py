"""People's decisions about releases: approve, reject, promote, roll back. The ledger's rules say who may do so."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from offers.errors import LedgerError
from offers.governance.entries import (
    Act,
    Approved,
    CanaryPlan,
    CanaryStepped,
    Entry,
    Promoted,
    Promoting,
    Rejected,
    Returned,
    RolledBack,
)
from offers.governance.keys import Signer
from offers.governance.ledger import Ledger
from offers.governance.state import State


def approve(
    ledger: Ledger,
    signer: Signer,
    release: str,
    evidence: Mapping[str, str],
    conditions: Sequence[str] = (),
    days: int | None = None,
) -> Entry:
    """Approve a release, so that it may be promoted.

    Parameters
    ----------
    evidence : SHA-256 of each document that the approver has seen, by name
    conditions : conditions of the approval, in plain words
    days : days until the approval lapses; the contract's number is the default and the maximum

    Raises
    ------
    LedgerError
        there is no such release, or the signer made it, may not approve, or has approved it already
    """

    def decide(state: State) -> Act:
        terms = state.release(release).act.terms
        until = ledger.clock() + timedelta(days=terms.days if days is None else days)
        return Approved(release=release, evidence=dict(evidence), conditions=tuple(conditions), until=until)

    return _written(ledger.write(signer, decide))


def reject(ledger: Ledger, signer: Signer, release: str, reason: str) -> Entry:
    """Reject a release for good; raises `LedgerError` where it serves, or the signer may not reject."""
    return _written(ledger.write(signer, lambda state: Rejected(release=release, reason=reason)))


def begin(ledger: Ledger, signer: Signer, release: str, canary: CanaryPlan | None = None) -> Entry:
    """Begin to promote a release; the services that follow the ledger complete the promotion.

    Parameters
    ----------
    canary : steps by which the release takes over; without them it does so at once

    Raises
    ------
    LedgerError
        the release is not approved, its approval has lapsed, it was rejected or is the champion already, another
        promotion is under way, or the signer may not promote
    """
    return _written(ledger.write(signer, lambda state: Promoting(release=release, canary=canary)))


def begin_back(ledger: Ledger, signer: Signer, contract: str, reason: str) -> Entry:
    """Begin to return to the release that served before; raises `LedgerError` where there is none."""

    def decide(state: State) -> Act:
        former = state.former(contract)
        if former is None:
            raise LedgerError(f"contract {contract}: there is no former champion to return to")
        return Promoting(release=former.name, back=True, reason=reason)

    return _written(ledger.write(signer, decide))


def step(ledger: Ledger, signer: Signer, release: str, share: float, evidence: str) -> Entry:
    """Record that a canary answers a share of the customers from now on, and why it may."""
    return _written(
        ledger.write(signer, lambda state: CanaryStepped(release=release, share=share, evidence=evidence[:2000]))
    )


def finish(ledger: Ledger, signer: Signer, promoting: Entry) -> Entry:
    """Record that the release of a promotion or rollback serves now."""

    def decide(state: State) -> Act:
        act = _of(promoting)
        champion = state.champion(state.release(act.release).act.contract)
        if not act.back:
            return Promoted(release=act.release)
        return RolledBack(release=act.release, withdrawn=champion.name if champion else "")

    return _written(ledger.write(signer, decide))


def give_up(ledger: Ledger, signer: Signer, promoting: Entry, reason: str) -> Entry:
    """Record that the release of a promotion or rollback does not serve, and why."""
    return _written(ledger.write(signer, lambda state: Returned(release=_of(promoting).release, reason=reason[:2000])))


def _of(promoting: Entry) -> Promoting:
    assert isinstance(promoting.act, Promoting)
    return promoting.act


def _written(entry: Entry | None) -> Entry:
    assert entry is not None
    return entry
