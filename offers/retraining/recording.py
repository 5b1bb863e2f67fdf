"""Records decisions on retraining, and the ends of runs, in the ledger; the journal has them in full."""

import hashlib

from offers.governance.entries import Entry, RetrainingDecided, RetrainingEnded
from offers.governance.keys import Signer
from offers.governance.ledger import Ledger
from offers.retraining.journal import Decision

_LONGEST = 2000


def decided(ledger: Ledger, signer: Signer, decision: Decision) -> Entry | None:
    """Write a decision; raises `LedgerError` where the signer is neither trainer nor operator."""
    request = decision.request
    act = RetrainingDecided(
        contract=request.contract,
        cause=request.cause,
        started=decision.started,
        run=decision.run,
        reason=decision.reason[:_LONGEST],
        request=hashlib.sha256(request.model_dump_json().encode()).hexdigest(),
    )
    return ledger.write(signer, lambda state: act)


def ended(
    ledger: Ledger, signer: Signer, contract: str, run: str, succeeded: bool, bundle: str, note: str
) -> Entry | None:
    """Write the end of a run; raises as `decided` does."""
    act = RetrainingEnded(
        contract=contract, run=run, succeeded=succeeded, bundle=bundle.rpartition("/")[2], note=note[:_LONGEST]
    )
    return ledger.write(signer, lambda state: act)
