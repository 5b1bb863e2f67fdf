"""What people decide about releases: approve, reject, promote, roll back. The ledger's rules say who may."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from offers.errors import LedgerError
from offers.governance.entries import Act, Approved, Entry, Promoted, Promoting, Rejected, Returned, RolledBack
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
    """Let a release be promoted.

    Parameters
    ----------
    evidence : SHA-256 of what was seen, by name
    conditions : under which the approval holds, in plain words
    days : after which it lapses; by default, and at most, as the contract says

    Raises
    ------
    LedgerError
        there is no such release, the signer made it, may not approve, or has done so already
    """

    def decide(state: State) -> Act:
        terms = state.release(release).act.terms
        until = ledger.clock() + timedelta(days=terms.days if days is None else days)
        return Approved(release=release, evidence=dict(evidence), conditions=tuple(conditions), until=until)

    return _written(ledger.write(signer, decide))


def reject(ledger: Ledger, signer: Signer, release: str, reason: str) -> Entry:
    """Refuse a release for good; raises `LedgerError` where it serves, or the signer may not."""
    return _written(ledger.write(signer, lambda state: Rejected(release=release, reason=reason)))


def begin(ledger: Ledger, signer: Signer, release: str) -> Entry:
    """Begin to promote a release; whoever serves takes it from there.

    Raises
    ------
    LedgerError
        it is not approved, lapsed, rejected or the champion already, another promotion is under way, or the signer
        may not
    """
    return _written(ledger.write(signer, lambda state: Promoting(release=release)))


def begin_back(ledger: Ledger, signer: Signer, contract: str, reason: str) -> Entry:
    """Begin to return to the release that served before; raises `LedgerError` where there is none."""

    def decide(state: State) -> Act:
        former = state.former(contract)
        if former is None:
            raise LedgerError(f"contract {contract}: there is no former champion to return to")
        return Promoting(release=former.name, back=True, reason=reason)

    return _written(ledger.write(signer, decide))


def finish(ledger: Ledger, signer: Signer, promoting: Entry) -> Entry:
    """Write that the release of a promotion or rollback serves."""

    def decide(state: State) -> Act:
        act = _of(promoting)
        champion = state.champion(state.release(act.release).act.contract)
        if not act.back:
            return Promoted(release=act.release)
        return RolledBack(release=act.release, withdrawn=champion.name if champion else "")

    return _written(ledger.write(signer, decide))


def give_up(ledger: Ledger, signer: Signer, promoting: Entry, reason: str) -> Entry:
    """Write that the release of a promotion or rollback does not serve, and why."""
    return _written(ledger.write(signer, lambda state: Returned(release=_of(promoting).release, reason=reason[:2000])))


def _of(promoting: Entry) -> Promoting:
    assert isinstance(promoting.act, Promoting)
    return promoting.act


def _written(entry: Entry | None) -> Entry:
    assert entry is not None
    return entry
