"""Orders that name a champion or a release: the ledger says which bundle and which catalogue are meant."""

from typing import TYPE_CHECKING

from offers.settings import Settings

if TYPE_CHECKING:
    from offers.batch.order import Order

CHAMPION, RELEASE = "champion:", "release:"


def settled(order: "Order", settings: Settings) -> "Order":
    """Put the release that serves now in place of `champion:CONTRACT`, so that all shards score with the same one.

    Raises
    ------
    LedgerError
        the contract has no champion
    """
    if not order.bundle.startswith(CHAMPION):
        return order
    from offers.errors import LedgerError
    from offers.governance.access import open_ledger

    contract = order.bundle.removeprefix(CHAMPION)
    state = open_ledger(settings).state()
    release = state.champion(contract) if contract in state.lines else None
    if release is None:
        known = ", ".join(name for name in state.lines if state.champion(name)) or "none"
        raise LedgerError(f"bundle {order.bundle!r}: expected a contract with a champion ({known}), got {contract!r}")
    return order.model_copy(update={"bundle": f"{RELEASE}{release.name}"})


def fetched(order: "Order", settings: Settings) -> "Order":
    """Put a copy of its bundle in place of `release:NAME`, and of its catalogue, where the order names none.

    Raises
    ------
    BundleError, StorageError
        there is no such release, or it does not hold
    """
    if not order.bundle.startswith(RELEASE):
        return order
    from offers.governance.access import governed_store
    from offers.governance.release import fetch

    release = fetch(governed_store(settings), order.bundle.removeprefix(RELEASE), settings.home, settings.signers)
    catalogue = order.catalogue or str(release.catalogue_path)
    return order.model_copy(update={"bundle": str(release.bundle_path), "catalogue": catalogue})
