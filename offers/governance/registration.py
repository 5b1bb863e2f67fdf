"""Registration: a bundle that passed the gate becomes a release, which people may approve."""

from typing import TYPE_CHECKING

from offers.contract.sections import ApprovalSettings
from offers.governance.entries import Act, ApprovalTerms, CatalogueChanged, DataRead, Entry, GateJudged, ReleaseMade
from offers.governance.keys import Signer
from offers.governance.ledger import Ledger
from offers.governance.release import store_release
from offers.governance.state import State

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle
    from offers.governance.market_release import AnyRelease
    from offers.retrieval.bundle import MarketBundle


def register(ledger: Ledger, signer: Signer, release: "AnyRelease") -> str:
    """Store a release, and write data, verdict, catalogue and release into the ledger, unless they are there already.

    Returns
    -------
    str
        the release's name

    Raises
    ------
    LedgerError
        the signer may not register, or the gate did not pass the bundle
    """
    store_release(ledger.store, release)
    bundle = release.bundle

    def read(state: State) -> Act | None:
        return None if bundle.name in state.gates else _read(bundle)

    def judged(state: State) -> Act | None:
        return None if bundle.name in state.gates else verdict_of(bundle)

    def changed(state: State) -> Act | None:
        before, after = state.catalogues.get(bundle.contract.name), release.manifest.files["catalogue.yaml"]
        if before is None or before == after or release.name in state.releases:
            return None
        name = release.manifest.catalogue
        return CatalogueChanged(contract=bundle.contract.name, catalogue=name, before=before, after=after)

    def made(state: State) -> Act | None:
        return None if release.name in state.releases else _made(release)

    ledger.write(signer, read)
    ledger.write(signer, judged)
    ledger.write(signer, changed)
    ledger.write(signer, made)
    return release.name


def refused(ledger: Ledger, signer: Signer, contract: str, verdict: str) -> Entry | None:
    """Record that the gate refused a candidate, unless that is there; `verdict` is the SHA-256 of its verdict."""
    act = GateJudged(contract=contract, bundle="", passed=False, evidence={"gate.json": verdict})
    return ledger.write(signer, lambda state: None if "" in state.gates and state.gates[""].act == act else act)


def verdict_of(bundle: "Bundle | MarketBundle") -> GateJudged:
    """Turn the gate's verdict on a bundle into an entry."""
    success = bundle.verdict.passed
    return GateJudged(contract=bundle.contract.name, bundle=bundle.name, passed=success, evidence=_evidence(bundle))


def _read(bundle: "Bundle | MarketBundle") -> DataRead:
    data = bundle.manifest.data
    return DataRead(
        contract=bundle.contract.name,
        bundle=bundle.name,
        origin=data.origin[:2000],
        rows=data.rows,
        fingerprint=data.fingerprint,
    )


def terms_of(approval: ApprovalSettings) -> ApprovalTerms:
    """Turn a contract's approval settings into the ledger's terms."""
    return ApprovalTerms(people=approval.people if approval.by == "people" else 0, days=approval.days)


def _made(release: "AnyRelease") -> ReleaseMade:
    return ReleaseMade(
        release=release.name,
        contract=release.bundle.contract.name,
        bundle=release.bundle.name,
        catalogue=release.manifest.catalogue,
        evidence=_evidence(release.bundle) | {"catalogue.yaml": release.manifest.files["catalogue.yaml"]},
        terms=terms_of(release.bundle.contract.approval),
    )


def _evidence(bundle: "Bundle | MarketBundle") -> dict[str, str]:
    return {name: bundle.manifest.files[name] for name in bundle.evidence}
